"""Redaction: no id of a person or a chat in the prompt, unless a name gives it away."""

from hashlib import sha256
from string import ascii_letters, digits

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sessiond_client.gateway import (
    HomeChannel,
    Platform,
    SessionContext,
    SessionSource,
    build_session_context_prompt,
)
from sessiond_client.gateway.redaction import (
    hash_chat_id,
    hash_user_id,
    looks_like_phone_number,
    one_line,
)
from tests.unit.client.gateway.contexts import contexts

REDACTED = [Platform.WHATSAPP, Platform.SIGNAL, Platform.TELEGRAM]


def digest(value: str) -> str:
    return sha256(value.encode()).hexdigest()[:12]


# Ids as platforms make them, and ones that share parts; none that our own wording contains.
raw_ids = st.one_of(
    st.text(digits, min_size=8, max_size=15),
    st.text(ascii_letters + digits + "-_.@:=+/ \n", min_size=8, max_size=20),
    st.sampled_from(["49170123", "4917012345", "telegram:4917012345", "49170123:5@s.whatsapp.net"]),
)
names = st.one_of(
    st.text(),
    st.sampled_from(["Anna", "+49 170 1234567", "4917012345", "re 49170123:5@s.whatsapp.net !"]),
    raw_ids,
)


def all_ids(context: SessionContext) -> set[str]:
    source = context.source
    ids = {source.chat_id, source.user_id, source.thread_id, source.user_id_alt}
    ids |= {source.chat_id_alt, *(home.chat_id for home in context.home_channels.values())}
    return {each for each in ids if each}


def all_names(context: SessionContext) -> list[str]:
    homes = context.home_channels.values()
    shown = [context.source.chat_name, context.source.user_name, *(home.name for home in homes)]
    return [name for name in shown if name]


def our_own_wording(context: SessionContext) -> str:
    """The prompt of the same context with nobody's ids, names and topics."""
    source = SessionSource(context.source.platform, "\0", chat_type=context.source.chat_type)
    homes = {key: HomeChannel(key, "\0", "\0") for key in context.home_channels}
    bare = SessionContext(source, context.connected_platforms, homes)
    return build_session_context_prompt(bare, redact_pii=True)


@given(contexts(raw_ids, names, st.sampled_from(REDACTED)))
@example(
    SessionContext(
        SessionSource(Platform.TELEGRAM, "491701234567:3@x", chat_topic="491701234567:3@x here"),
        [],
        {},
    )
)
def test_no_raw_id_in_a_redacted_prompt(context: SessionContext) -> None:
    ids, wording = all_ids(context), our_own_wording(context)
    assume(not any(one_line(each) in wording or each in wording for each in ids))
    prompt = build_session_context_prompt(context, redact_pii=True)
    shown_names = [one_line(name) for name in all_names(context)]
    for each in ids:
        if not any(each in name for name in [*all_names(context), *shown_names]):
            assert each not in prompt


@given(contexts(raw_ids, st.just("Anna"), st.sampled_from(REDACTED)))
def test_a_prompt_holds_the_hashes_of_what_it_hides(context: SessionContext) -> None:
    prompt = build_session_context_prompt(context, redact_pii=True)
    source = context.source
    if source.user_id and source.user_id.strip() and not source.user_name:
        assert f"**User ID:** {hash_user_id(source.user_id)}" in prompt
    if source.thread_id and source.thread_id.strip():
        assert f", thread: {hash_chat_id(source.thread_id)})" in prompt
    for home in context.home_channels.values():
        assert f"(ID: {hash_chat_id(home.chat_id)})" in prompt


@given(contexts(st.text(digits, min_size=8), st.just("Anna")))
def test_ids_stay_where_they_are_needed_or_redaction_is_not_asked_for(
    context: SessionContext,
) -> None:
    redact = context.source.platform not in REDACTED
    prompt = build_session_context_prompt(context, redact_pii=redact)
    for home in context.home_channels.values():
        assert f"(ID: {home.chat_id})" in prompt
    if context.source.thread_id and context.source.platform != Platform.LOCAL:
        assert f"thread: {context.source.thread_id}" in prompt


def test_user_ids() -> None:
    assert hash_user_id("491701234567") == f"user_{digest('491701234567')}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12345678", digest("12345678")),
        ("telegram:12345678", f"telegram:{digest('12345678')}"),
        ("telegram:1:2", f"telegram:{digest('1:2')}"),
        # What stands before these colons is not a platform, but part of the id.
        ("49170123:3@s.whatsapp.net", digest("49170123:3@s.whatsapp.net")),
        ("telegram:", digest("telegram:")),
        (":1", digest(":1")),
        ("Telegram:1", digest("Telegram:1")),
    ],
)
def test_chat_ids(value: str, expected: str) -> None:
    assert hash_chat_id(value) == expected


def test_an_id_with_undecodable_bytes_has_a_hash_too() -> None:
    assert hash_user_id("\udcff") != hash_user_id("\udcfe")


@pytest.mark.parametrize(
    "name",
    [
        "+491701234567",
        "1234567",
        "0170 123 45 67",
        "0170-1234567",
        " +49 170 1234567 ",
        "\u202a+49 170 1234567\u202c",
        "+49\u2011170\u20111234567",
        "+49\xa0170\xa01234567",
        "٠١٢٣٤٥٦",
    ],
)
def test_names_that_are_numbers(name: str) -> None:
    assert looks_like_phone_number(name)
    source = SessionSource(Platform.WHATSAPP, "c", name, "group", "u", name)
    context = SessionContext(
        source, [], {Platform.SLACK: HomeChannel(Platform.SLACK, "C123", name)}
    )
    prompt = build_session_context_prompt(context, redact_pii=True)
    assert name.strip() not in prompt
    assert f"(group: {digest(name)})" in prompt
    assert f"**User:** user_{digest(name)}" in prompt
    assert f"- slack: {digest(name)} (ID: " in prompt
    assert f"Home channel ({digest(name)})" in prompt
    assert one_line(name) in build_session_context_prompt(context)


@pytest.mark.parametrize(
    "name", ["123456", "Anna 1234567", "-------", "       ", "+", "++4917012345", "", "12345a67"]
)
def test_names_that_are_none(name: str) -> None:
    assert not looks_like_phone_number(name)


def test_a_name_that_is_an_id_counts_as_one() -> None:
    source = SessionSource(Platform.SIGNAL, "c", chat_name="a-b-c", user_id="a-b-c")
    source.chat_type = "group"
    prompt = build_session_context_prompt(SessionContext(source, [], {}), redact_pii=True)
    assert "a-b-c" not in prompt


def test_ids_are_taken_out_of_a_topic_whole() -> None:
    source = SessionSource(Platform.TELEGRAM, "telegram:4917012345", user_id="491701234567")
    source.chat_topic = "491701234567, 4917012345, telegram:4917012345, 49170123"
    prompt = build_session_context_prompt(SessionContext(source, [], {}), redact_pii=True)
    chat = digest("4917012345")
    whole = digest("telegram:4917012345")
    topic = f"{digest('491701234567')}, {chat}, {whole}, 49170123"
    assert f"**Channel Topic:** {topic}\n" in prompt


def test_what_nothing_can_be_seen_of_is_not_shown_as_a_hash() -> None:
    source = SessionSource(Platform.SIGNAL, "c", "\n", "dm", "\n", "\n", "\n", "\n")
    prompt = build_session_context_prompt(SessionContext(source, [], {}), redact_pii=True)
    assert prompt.split("\n")[1] == "**Source:** Signal (DM with user)"
    assert digest("\n") not in prompt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\r\nc", "a b  c"),
        ("a\x00\x1b[31m\x7f\x9bb", "a  [31m  b"),
        ("a\u2028b\u2029c\x85d", "a b c d"),
        ("a\u202eb\u2066c\u200fd", "a b c d"),
        ("\n x \t", "x"),
        ("a\ud800b", "a\ufffdb"),
        ("👩\u200d💻 köln 東京", "👩\u200d💻 köln 東京"),
    ],
)
def test_text_on_one_line(text: str, expected: str) -> None:
    assert one_line(text) == expected
