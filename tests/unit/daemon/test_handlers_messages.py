"""Messages: ids, counters, keys, structured content, all or none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.work import Outcome
from sessiond_protocol.content import text_hash
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.feed import Event
from sessiond_protocol.requests.message import (
    Message,
    MessageAppend,
    MessageAppendMany,
    MessageClear,
    MessageReplace,
)
from sessiond_protocol.requests.session import SessionCreate
from tests.unit.daemon.stores import Opened, appending, integrity, opened, works


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("s")
        yield made


def made(**more: Any) -> Message:
    return Message(**{"role": "user", "timestamp": 5.0, "content": "text", **more})


def append(session_id: str = "s", **more: Any) -> MessageAppend:
    return MessageAppend(session_id=session_id, message=made(**more))


def many(*messages: Message, session_id: str = "s") -> MessageAppendMany:
    return MessageAppendMany(session_id=session_id, messages=list(messages))


def replace(*messages: Message, session_id: str = "s") -> MessageReplace:
    return MessageReplace(session_id=session_id, messages=list(messages))


def counters(file: Opened, session_id: str = "s") -> tuple[int, int]:
    sql = "SELECT message_count, tool_call_count FROM sessions WHERE id = ?"
    [(messages, calls)] = file.rows(sql, session_id)
    return messages, calls


def texts(file: Opened) -> list[str]:
    return [each for (each,) in file.rows("SELECT content FROM messages ORDER BY id")]


def error(outcome: Outcome) -> tuple[Any, ...]:
    assert outcome.error is not None
    return outcome.error


UNKNOWN = ("integrity", "session 'nobody' does not exist", {"session_id": "nobody"})


# --- appending ---------------------------------------------------------------------------------


def test_every_field_reaches_its_column(file: Opened) -> None:
    fields: dict[str, Any] = {
        "role": "assistant", "timestamp": 12.5, "content": "hello", "tool_name": "shell",
        "tool_calls": "[1]", "tool_call_id": "t1", "token_count": 7, "finish_reason": "stop",
        "reasoning": "because", "reasoning_details": "[2]", "codex_reasoning_items": "[3]",
    }  # fmt: skip
    assert file.results(append(**fields)) == [1]
    [stored] = file.rows(f"SELECT {', '.join(fields)} FROM messages")
    assert stored == tuple(fields.values())


def test_ids_rise_in_the_order_of_the_calls(file: Opened) -> None:
    file.append("t")
    assert file.results(append(), append("t"), append()) == [1, 2, 3]
    assert file.results(append(timestamp=1.0)) == [4]  # a clock that was set back changes nothing


def test_an_id_is_never_given_twice(file: Opened) -> None:
    file.results(append(), append())
    file.results(MessageClear(session_id="s"))
    assert file.results(append()) == [3]


def test_counters_rise_with_the_message(file: Opened) -> None:
    file.results(append(), append(tool_calls="[1, 2]", tool_call_count=2))
    assert counters(file) == (2, 2)
    file.results(append(role="tool", tool_call_id="t"), append(tool_call_count=1))
    assert counters(file) == (4, 3)


def test_counters_that_another_program_left_unset_count_as_zero(file: Opened) -> None:
    file.rows("UPDATE sessions SET message_count = NULL, tool_call_count = NULL")
    file.results(append(tool_call_count=2))
    assert counters(file) == (1, 2)


def test_many_large_tool_call_counts_in_one_batch_are_only_numbers(file: Opened) -> None:
    highest = 2**31 - 1
    file.results(*[append(tool_call_count=highest)] * 50)
    assert counters(file) == (50, 50 * highest)


def test_an_unknown_session_is_named_and_nothing_is_stored(file: Opened) -> None:
    outcomes = file.apply(append("nobody"), many(made(), session_id="nobody"), append())
    assert [error(each) for each in outcomes[:2]] == [UNKNOWN, UNKNOWN]
    assert texts(file) == ["text"]
    assert file.results(append()) == [2]


def test_several_are_stored_all_or_none(file: Opened) -> None:
    assert file.results(many(made(content="a"), made(content="b"))) == [[1, 2]]
    [outcome] = file.apply(many(made(content="c"), made(content="d", timestamp=float("nan"))))
    assert error(outcome)[0] == "integrity"
    assert texts(file) == ["a", "b"]
    assert counters(file) == (2, 0)
    assert file.check().sound


def test_none_are_none(file: Opened) -> None:
    assert file.results(many()) == [[]]
    assert error(file.apply(many(session_id="nobody"))[0]) == UNKNOWN


def test_text_is_kept_as_it_is(file: Opened) -> None:
    odd = ["", "\0", "a\0b", "  x \r\n", "\U0001f600", "\ufeff", "'; DROP TABLE messages; --"]
    file.results(*[append(content=each) for each in odd])
    assert texts(file) == odd
    assert file.check().sound


# --- keys --------------------------------------------------------------------------------------


def test_a_key_is_stored_once_and_gives_the_first_id(file: Opened) -> None:
    first = append(message_key="k", content="first")
    assert file.results(first) == [1]
    assert file.results(append(message_key="k", content="second", tool_call_count=3)) == [1]
    assert texts(file) == ["first"]
    assert counters(file) == (1, 0)


def test_a_key_is_found_again_in_the_same_batch_and_the_same_request(file: Opened) -> None:
    assert file.results(append(message_key="k"), append(message_key="k")) == [1, 1]
    several = many(made(message_key="k"), made(message_key="l"), made(), made(message_key="l"))
    assert file.results(several) == [[1, 2, 3, 2]]
    assert counters(file) == (3, 0)


def test_a_key_belongs_to_its_session(file: Opened) -> None:
    file.append("t")
    assert file.results(append(message_key="k"), append("t", message_key="k")) == [1, 2]


def test_a_key_survives_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as before:
        before.append("s")
        assert before.results(append(message_key="k")) == [1]
    with opened(path) as after:
        assert after.results(append(message_key="k"), append()) == [1, 2]


@pytest.mark.parametrize("ending", [MessageClear(session_id="s"), replace(made(content="new"))])
def test_a_key_whose_message_is_gone_is_new(file: Opened, ending: Request[Any]) -> None:
    file.results(append(message_key="k"), ending)
    (again,) = file.results(append(message_key="k", content="again"))
    assert again > 1
    assert texts(file)[-1] == "again"


def test_a_key_whose_message_another_program_deleted_is_new(file: Opened) -> None:
    file.results(append(message_key="k"))
    file.rows("DELETE FROM messages")
    assert file.results(append(message_key="k"), append(message_key="k")) == [2, 2]


def test_an_empty_key_is_a_key(file: Opened) -> None:
    assert file.results(append(message_key=""), append(message_key="")) == [1, 1]


# --- structured content ------------------------------------------------------------------------


def test_a_structure_lies_beside_its_text(file: Opened) -> None:
    file.results(append(content="a\nb", content_value='["a", "b"]'), append(content="plain"))
    assert file.rows("SELECT message_id, value, text_hash FROM sessiond_content") == [
        (1, '["a", "b"]', text_hash("a\nb"))
    ]


def test_a_structure_without_text_has_an_empty_text(file: Opened) -> None:
    """Any client may leave the text out: what is stored is what this project's own would send."""
    file.results(append(content=None, content_value='{"type": "image"}'))
    assert file.value("SELECT content FROM messages") == ""
    assert file.check().sound


@pytest.mark.parametrize("ending", [MessageClear(session_id="s"), replace(made())])
def test_a_structure_goes_with_its_message(file: Opened, ending: Request[Any]) -> None:
    file.append("t")
    file.results(append(content_value="[1]"), append("t", content_value="[2]"), ending)
    assert file.rows("SELECT value FROM sessiond_content") == [("[2]",)]


# --- replacing and clearing --------------------------------------------------------------------


def test_a_transcript_is_replaced_with_its_counters(file: Opened) -> None:
    file.results(append(content="old apple", tool_call_count=5), append(content="old pear"))
    new = [made(content="new apple", tool_call_count=1), made(content="中文", tool_call_count=1)]
    applied = file.store.apply(works(replace(*new)))
    assert applied.outcomes[0].error is None
    assert msgspec.msgpack.decode(applied.outcomes[0].result or b"") == 2
    assert applied.events == [Event("messages_replaced", "s", first_id=3, last_id=4)]
    assert texts(file) == ["new apple", "中文"]
    assert counters(file) == (2, 2)
    assert file.found("apple") == [3]
    integrity(file.connection)


def test_a_failure_leaves_the_old_transcript(file: Opened) -> None:
    file.results(append(content="old"))
    bad = made(content="bad", timestamp=float("nan"))
    assert error(file.apply(replace(made(content="new"), bad))[0])[0] == "integrity"
    assert error(file.apply(replace(made(), session_id="nobody"))[0]) == UNKNOWN
    assert texts(file) == ["old"]
    assert counters(file) == (1, 0)
    assert file.check().sound


def test_replacing_by_nothing_empties(file: Opened) -> None:
    file.results(append())
    assert file.results(replace()) == [0]
    assert counters(file) == (0, 0)
    assert file.store.apply(works(replace())).events == [Event("messages_replaced", "s")]


def test_clearing_zeroes_both_counters_and_is_an_event_if_anything_was_there(file: Opened) -> None:
    file.results(append(tool_call_count=3))
    clear = MessageClear(session_id="s")
    assert file.store.apply(works(clear)).events == [Event("messages_cleared", "s")]
    assert counters(file) == (0, 0)
    assert file.store.apply(works(clear)).events == []
    assert file.results(MessageClear(session_id="nobody")) == [None]


def test_clearing_mends_counters_that_were_wrong(file: Opened) -> None:
    file.rows("UPDATE sessions SET message_count = 7, tool_call_count = 7")
    file.results(MessageClear(session_id="s"))
    assert counters(file) == (0, 0)


def test_what_was_counted_before_a_replace_in_the_same_batch_is_not_counted(file: Opened) -> None:
    file.results(append(tool_call_count=4), replace(made(tool_call_count=1)), append())
    assert counters(file) == (2, 1)
    file.results(append(tool_call_count=9), MessageClear(session_id="s"), append())
    assert counters(file) == (1, 0)


actions = st.lists(
    st.tuples(
        st.sampled_from(["append", "many", "replace", "clear", "bad", "recreate"]),
        st.sampled_from(["s", "t"]),
        st.integers(0, 3),
    ),
    max_size=10,
)


@settings(max_examples=40)
@given(actions=actions, sizes=st.lists(st.integers(1, 5), min_size=1, max_size=10))
def test_counters_always_tell_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str, int]], sizes: list[int]
) -> None:
    with opened(tmp_path_factory.mktemp("counters") / "state.db") as file:
        file.append("s")
        file.append("t")
        requests = [_request(*each) for each in actions]
        while requests:
            size = sizes[len(requests) % len(sizes)]
            file.apply(*requests[:size])
            del requests[:size]
            for session_id in "st":
                found = file.value("SELECT count(*) FROM messages WHERE session_id = ?", session_id)
                calls = file.value(
                    "SELECT count(tool_calls) FROM messages WHERE session_id = ?", session_id
                )
                assert counters(file, session_id) == (found, calls)
        integrity(file.connection)


def _request(kind: str, session_id: str, count: int) -> Request[Any]:
    messages = [
        made(
            content=f"text {each} 中文",
            tool_calls="[1]" if each else None,
            tool_call_count=each and 1,
        )
        for each in range(count)
    ]
    match kind:
        case "append":
            return appending(session_id, "text")
        case "many":
            return many(*messages, session_id=session_id)
        case "replace":
            return replace(*messages, session_id=session_id)
        case "clear":
            return MessageClear(session_id=session_id)
        case "bad":
            return many(*messages, made(timestamp=float("nan")), session_id=session_id)
        case _:
            return SessionCreate(session_id=session_id, source="cli", started_at=1.0)
