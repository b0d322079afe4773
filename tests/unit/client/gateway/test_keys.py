"""Session keys: the fixed format, and when two sources share one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.gateway import (
    Platform,
    SessionSource,
    build_session_key,
    is_shared_multi_user_session,
)
from tests.unit.client.gateway.sources import CHAT_TYPES, sources

S = Platform.SLACK

# Few different ids, so that equal and different ones both come up; none with a colon.
few_ids = st.sampled_from(["1", "2", "a", "dm", "12"]) | st.text(
    st.characters(exclude_characters=":"), min_size=1, max_size=3
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (SessionSource(S, "c"), "agent:main:slack:dm:c"),
        (SessionSource(S, "c", thread_id="t"), "agent:main:slack:dm:c:t"),
        (SessionSource(S, "c", user_id="u"), "agent:main:slack:dm:c"),
        (SessionSource(S, "", thread_id="t"), "agent:main:slack:dm:t"),
        (SessionSource(S, "", thread_id="t", user_id="u"), "agent:main:slack:dm:t"),
        (SessionSource(S, "", user_id="u"), "agent:main:slack:dm:u"),
        (SessionSource(S, "", user_id="u", user_id_alt="v"), "agent:main:slack:dm:v"),
        (SessionSource(S, ""), "agent:main:slack:dm"),
        (SessionSource.local_cli(), "agent:main:local:dm:cli"),
        (SessionSource(S, "c", chat_type="group", user_id="u"), "agent:main:slack:group:c:u"),
        (SessionSource(S, "c", chat_type="group"), "agent:main:slack:group:c"),
        (
            SessionSource(S, "c", chat_type="channel", user_id="u", thread_id="t"),
            "agent:main:slack:channel:c:t:u",
        ),
        (
            SessionSource(S, "", chat_type="thread", user_id="u", user_id_alt="v"),
            "agent:main:slack:thread:v",
        ),
        (SessionSource(Platform.API_SERVER, "x"), "agent:main:api_server:dm:x"),
    ],
)
def test_the_fixed_format(source: SessionSource, expected: str) -> None:
    assert build_session_key(source) == expected


def test_one_conversation_for_a_whole_group() -> None:
    source = SessionSource(S, "c", chat_type="group", user_id="u", thread_id="t")
    assert build_session_key(source, False) == "agent:main:slack:group:c:t"
    assert build_session_key(source, group_sessions_per_user=True).endswith(":c:t:u")


def conversation(source: SessionSource, per_user: bool) -> tuple[str | None, ...]:
    """What a key may depend on, and has to."""
    person = source.user_id_alt or source.user_id
    place = (source.platform, source.chat_type, source.chat_id, source.thread_id)
    if source.chat_type == "dm":
        return (*place, None if source.chat_id or source.thread_id else person)
    return (*place, person if per_user else None)


def kinds_of_ids(source: SessionSource) -> tuple[bool, ...]:
    person = source.user_id_alt or source.user_id
    return (bool(source.chat_id), bool(source.thread_id), bool(person))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[SessionSource, SessionSource]:
    """Two sources without colons in their ids, that have the same kinds of ids."""
    alike = sources(few_ids, platforms=st.sampled_from([S, Platform.SMS]))
    first = draw(alike)
    second = draw(alike.filter(lambda other: kinds_of_ids(other) == kinds_of_ids(first)))
    return first, second


@given(pairs(), st.booleans())
def test_keys_are_equal_exactly_when_conversations_are(
    pair: tuple[SessionSource, SessionSource], per_user: bool
) -> None:
    first, second = pair
    same_key = build_session_key(first, per_user) == build_session_key(second, per_user)
    assert same_key == (conversation(first, per_user) == conversation(second, per_user))


@given(sources(few_ids), st.booleans())
def test_names_topics_and_the_chat_s_other_id_do_not_matter(
    source: SessionSource, per_user: bool
) -> None:
    bare = SessionSource(
        source.platform,
        source.chat_id,
        chat_type=source.chat_type,
        user_id=source.user_id,
        thread_id=source.thread_id,
        user_id_alt=source.user_id_alt,
    )
    assert build_session_key(source, per_user) == build_session_key(bare, per_user)


@given(sources(), st.booleans())
def test_a_session_is_shared_exactly_when_the_person_does_not_matter(
    source: SessionSource, per_user: bool
) -> None:
    shared = is_shared_multi_user_session(source, per_user)
    if source.chat_type == "dm":
        assert not shared
        return
    source.user_id = source.user_id_alt = None
    without = build_session_key(source, per_user)
    source.user_id = "somebody"
    assert is_shared_multi_user_session(source, per_user) == (
        build_session_key(source, per_user) == without
    )


@pytest.mark.parametrize("chat_type", CHAT_TYPES)
def test_a_chat_where_nobody_is_named_is_shared(chat_type: str) -> None:
    source = SessionSource(S, "c", chat_type=chat_type)
    assert is_shared_multi_user_session(source) == (chat_type != "dm")
    source.user_id_alt = "v"
    assert not is_shared_multi_user_session(source)
