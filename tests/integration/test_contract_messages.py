"""What the calls on messages do, on both clients and by every way of reading."""

import sqlite3
import time
from typing import Any

import pytest

from sessiond_client import SessionDB
from sessiond_protocol.schema import MESSAGE_COLUMN_NAMES
from tests.support.clients import new_id

CALLS = [{"id": "c1", "function": {"name": "ls", "arguments": "{}"}}, {"id": "c2"}]
PARTS = [
    {"type": "text", "text": "what is this?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    {"type": "text", "text": "and this?"},
]


def opened(db: SessionDB) -> str:
    """A new session without messages."""
    name = new_id()
    db.create_session(name, "cli")
    return name


def counters(db: SessionDB, session_id: str) -> tuple[int, int]:
    found = db.get_session(session_id)
    assert found is not None
    return found["message_count"], found["tool_call_count"]


def contents(db: SessionDB, session_id: str) -> list[Any]:
    return [each["content"] for each in db.get_messages(session_id)]


# --- append --------------------------------------------------------------------------------


def test_append_stores_every_argument(db: SessionDB) -> None:
    name = opened(db)
    details, items = [{"type": "summary"}], [{"id": 1}]
    stored = db.append_message(
        name, "assistant", "text", "tool", CALLS, "call", 12, "stop", "because", details, items,
        1234.5, message_key="key",
    )  # fmt: skip
    (found,) = db.get_messages(name)
    assert tuple(found) == MESSAGE_COLUMN_NAMES
    assert found == {
        "id": stored,
        "session_id": name,
        "role": "assistant",
        "content": "text",
        "tool_call_id": "call",
        "tool_calls": CALLS,
        "tool_name": "tool",
        "timestamp": 1234.5,
        "token_count": 12,
        "finish_reason": "stop",
        "reasoning": "because",
        "reasoning_details": details,
        "codex_reasoning_items": items,
    }


def test_a_message_is_stamped_with_the_callers_clock(db: SessionDB) -> None:
    name = opened(db)
    before = time.time()
    db.append_message(name, "user", "hello")
    (found,) = db.get_messages(name)
    assert before <= found["timestamp"] <= time.time()


def test_ids_rise_in_the_order_of_the_calls(db: SessionDB) -> None:
    name = opened(db)
    ids = [db.append_message(name, "user", str(number)) for number in range(5)]
    assert ids == sorted(set(ids))
    assert min(ids) > 0


def test_messages_come_in_the_order_of_ids_whatever_the_clock_did(db: SessionDB) -> None:
    name = opened(db)
    db.append_message(name, "assistant", "call", tool_calls=CALLS, timestamp=2000.0)
    db.append_message(name, "tool", "result", timestamp=1000.0)
    assert contents(db, name) == ["call", "result"]
    conversation = db.get_messages_as_conversation(name)
    assert [each["role"] for each in conversation] == ["assistant", "tool"]


@pytest.mark.parametrize("empty", [None, [], {}, ""])
def test_empty_json_columns_are_null(db: SessionDB, empty: Any) -> None:
    name = opened(db)
    db.append_message(
        name, "assistant", tool_calls=empty, reasoning_details=empty, codex_reasoning_items=empty
    )
    (found,) = db.get_messages(name)
    assert found["content"] is None
    assert [found["tool_calls"], found["reasoning_details"], found["codex_reasoning_items"]] == [
        None, None, None,
    ]  # fmt: skip
    assert counters(db, name) == (1, 0)


def test_counters_follow_messages_and_tool_calls(db: SessionDB) -> None:
    name = opened(db)
    db.append_message(name, "user", "hello")
    db.append_message(name, "assistant", tool_calls=CALLS)
    db.append_message(name, "tool", "result", tool_name="ls", tool_call_id="c1")
    db.append_message(name, "assistant", tool_calls={"id": "c3"})
    assert counters(db, name) == (4, 3)


def test_a_missing_session_is_an_integrity_error_naming_it(db: SessionDB) -> None:
    name = new_id()
    for write in (
        lambda: db.append_message(name, "user", "hello"),
        lambda: db.append_messages(name, [{"role": "user"}]),
        lambda: db.replace_messages(name, [{"role": "user"}]),
    ):
        with pytest.raises(sqlite3.IntegrityError, match=name):
            write()
    assert db.message_count(name) == 0


@pytest.mark.parametrize(
    "number", [2**70, -(2**70), 3.5, True, None, "text", {"1": [2**70]}, ["\ud800"]]
)
def test_json_columns_hold_what_json_holds(db: SessionDB, number: Any) -> None:
    name = opened(db)
    db.append_message(name, "assistant", reasoning_details=[number])
    (found,) = db.get_messages(name)
    assert found["reasoning_details"] == [["\ufffd"] if number == ["\ud800"] else number]


@pytest.mark.parametrize(
    ("argument", "bad"),
    [
        ("timestamp", float("nan")),
        ("timestamp", "now"),
        ("token_count", 2**63),
        ("token_count", 1.5),
        ("tool_calls", [float("nan")]),
        ("reasoning_details", [object()]),
        ("codex_reasoning_items", {1: {2}}),
        ("content", object()),
        ("content", 5),
        ("content", [float("inf")]),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(db: SessionDB, argument: str, bad: Any) -> None:
    name = opened(db)
    given: dict[str, Any] = {argument: bad}
    with pytest.raises(ValueError, match=argument):
        db.append_message(name, "user", **given)
    with pytest.raises(ValueError, match=rf"messages\[1\].*{argument}"):
        db.append_messages(name, [{"role": "user"}, {"role": "user", **given}])
    assert counters(db, name) == (0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\x00b",
        "\ud83d\ude00",
        "\u4f60\u597d \U0001f600\u200d",
        "\0json:{}",
        "\r\n\t",
        "x" * 300_000,
    ],
)
def test_text_comes_back_as_it_was(db: SessionDB, text: str) -> None:
    name = opened(db)
    db.append_message(name, "user", text, tool_name=text, reasoning=text)
    (found,) = db.get_messages(name)
    whole = "\U0001f600" if text.startswith("\ud83d") else text
    assert (found["content"], found["tool_name"], found["reasoning"]) == (whole, whole, whole)


def test_lone_surrogates_become_replacement_characters(db: SessionDB) -> None:
    name = opened(db)
    db.append_message(name, "user", "a\ud800b")
    assert contents(db, name) == ["a\ufffdb"]


def test_a_message_larger_than_a_request_may_be_is_refused_and_harms_nothing(
    db: SessionDB,
) -> None:
    name = opened(db)
    with pytest.raises(ValueError, match=r"exceeds max_request_bytes \d+"):
        db.append_message(name, "user", "x" * 17_000_000)
    db.append_message(name, "user", "small")
    assert contents(db, name) == ["small"]


# --- structured content --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (PARTS, "what is this?\nand this?"),
        ({"type": "text", "text": "alone", "more": [1, None, True]}, "alone"),
        ([PARTS[1]], ""),
        ([], ""),
        ({}, ""),
        (["plain", {"type": "text", "text": "parts"}], "plain\nparts"),
    ],
)
def test_structured_content_comes_back_and_its_text_is_found(
    db: SessionDB, content: Any, text: str
) -> None:
    name = opened(db)
    db.append_message(name, "user", content)
    assert contents(db, name) == [content]
    assert db.get_messages_as_conversation(name) == [{"role": "user", "content": content}]
    exported = db.export_session(name)
    assert exported is not None
    assert exported["messages"][0]["content"] == content
    preview = next(each for each in db.list_sessions_rich(limit=1000) if each["id"] == name)
    assert preview["preview"] == text.replace("\n", " ")


def test_images_are_not_searched_and_text_is(db: SessionDB) -> None:
    name = opened(db)
    word = f"w{name[-12:]}"
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{word}"}}
    db.append_message(name, "user", [image])
    assert db.search_messages(word) == []
    db.append_message(name, "user", [{"type": "text", "text": f"so {word} it is"}, image])
    assert [each["session_id"] for each in db.search_messages(word)] == [name]


# --- message keys --------------------------------------------------------------------------


def test_a_key_stores_a_message_once(db: SessionDB) -> None:
    name, other = opened(db), opened(db)
    first = db.append_message(name, "user", "one", tool_calls=CALLS, message_key="k")
    assert db.append_message(name, "user", "two", tool_calls=CALLS, message_key="k") == first
    assert contents(db, name) == ["one"]
    assert counters(db, name) == (1, 2)
    assert db.append_message(other, "user", "three", message_key="k") != first
    db.clear_messages(name)
    assert db.append_message(name, "user", "four", message_key="k") > first


def test_a_repeated_key_yields_the_first_id_in_its_place(db: SessionDB) -> None:
    name = opened(db)
    ids = db.append_messages(
        name,
        [
            {"role": "user", "content": "a", "message_key": "k"},
            {"role": "user", "content": "b"},
            {"role": "user", "content": "c", "message_key": "k"},
        ],
    )
    assert len(ids) == 3
    assert ids[0] == ids[2] < ids[1]
    assert contents(db, name) == ["a", "b"]
    assert counters(db, name) == (2, 0)


# --- many at once --------------------------------------------------------------------------


def test_append_messages_is_one_write(db: SessionDB) -> None:
    name = opened(db)
    ids = db.append_messages(
        name,
        [
            {"role": "user", "content": "a", "timestamp": 5.0},
            {"content": "b", "tool_calls": CALLS},
            {"role": "assistant", "content": PARTS},
        ],
    )
    found = db.get_messages(name)
    assert [each["id"] for each in found] == ids == sorted(ids)
    assert [each["role"] for each in found] == ["user", "unknown", "assistant"]
    assert [each["content"] for each in found] == ["a", "b", PARTS]
    assert found[0]["timestamp"] == 5.0
    assert counters(db, name) == (3, 2)
    assert db.append_messages(name, []) == []


def test_append_messages_stores_all_or_none(db: SessionDB) -> None:
    name = opened(db)
    with pytest.raises(ValueError, match=r"messages\[1\].*colour"):
        db.append_messages(name, [{"role": "user"}, {"role": "user", "colour": "red"}])
    assert db.message_count(name) == 0


@pytest.mark.parametrize("bad", ["text", None, ["role", "user"]])
def test_a_message_that_is_no_mapping_is_refused_by_its_place(db: SessionDB, bad: Any) -> None:
    with pytest.raises(ValueError, match=r"messages\[1\] must be a mapping"):
        db.append_messages(opened(db), [{"role": "user"}, bad])


def test_replace_recounts_and_returns_how_many(db: SessionDB) -> None:
    name = opened(db)
    db.append_message(name, "user", "old", tool_calls=CALLS)
    assert db.replace_messages(name, [{"role": "user", "content": "new"}, {"role": "x"}]) == 2
    assert contents(db, name) == ["new", None]
    assert counters(db, name) == (2, 0)
    assert db.replace_messages(name, []) == 0
    assert counters(db, name) == (0, 0)


def test_a_replace_that_fails_leaves_the_old_transcript(db: SessionDB) -> None:
    name = opened(db)
    db.append_message(name, "user", "old")
    with pytest.raises(ValueError, match="timestamp"):
        db.replace_messages(name, [{"role": "user"}, {"role": "user", "timestamp": "x"}])
    assert contents(db, name) == ["old"]


def test_clear_zeroes_the_counters(db: SessionDB) -> None:
    name = opened(db)
    db.append_message(name, "assistant", "a", tool_calls=CALLS)
    db.clear_messages(name)
    assert db.get_messages(name) == []
    assert counters(db, name) == (0, 0)


# --- reading -------------------------------------------------------------------------------


def test_long_transcripts_are_paged(db: SessionDB) -> None:
    name = opened(db)
    ids = db.append_messages(name, [{"role": "user", "content": str(n)} for n in range(2345)])
    assert [each["id"] for each in db.get_messages(name)] == ids
    assert [each["id"] for each in db.get_messages(name, limit=3)] == ids[:3]
    assert [each["id"] for each in db.get_messages(name, 1500, 700)] == ids[700:2200]
    assert [each["id"] for each in db.get_messages(name, offset=2300)] == ids[2300:]
    assert db.get_messages(name, limit=0) == []
    assert db.get_messages(name, offset=5000) == []
    assert len(db.get_messages_as_conversation(name)) == 2345


@pytest.mark.parametrize("argument", ["limit", "offset"])
def test_negative_bounds_are_refused_by_name(db: SessionDB, argument: str) -> None:
    given: dict[str, Any] = {argument: -1}
    with pytest.raises(ValueError, match=argument):
        db.get_messages(new_id(), **given)


def test_a_missing_session_has_no_messages(db: SessionDB) -> None:
    name = new_id()
    assert db.get_messages(name) == []
    assert db.get_messages_as_conversation(name) == []
    assert db.message_count(name) == 0


def test_the_conversation_holds_what_is_not_empty(db: SessionDB) -> None:
    name = opened(db)
    db.append_message(name, "user", "q", reasoning="not shown", tool_name="t", tool_call_id="")
    db.append_message(
        name, "assistant", None, tool_calls=CALLS, reasoning="because",
        reasoning_details=[{"a": 1}], codex_reasoning_items=[{"b": 2}], finish_reason="stop",
    )  # fmt: skip
    db.append_message(name, "tool", "result", tool_name="ls", tool_call_id="c1")
    db.append_message(name, "assistant", "done", reasoning="")
    assert db.get_messages_as_conversation(name) == [
        {"role": "user", "content": "q", "tool_name": "t"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": CALLS,
            "reasoning": "because",
            "reasoning_details": [{"a": 1}],
            "codex_reasoning_items": [{"b": 2}],
        },
        {"role": "tool", "content": "result", "tool_call_id": "c1", "tool_name": "ls"},
        {"role": "assistant", "content": "done"},
    ]


def test_counts(db: SessionDB) -> None:
    source = new_id("source")
    names = [new_id() for _ in range(3)]
    for name in names:
        db.create_session(name, source)
    sessions, messages = db.session_count(), db.message_count()
    db.append_messages(names[0], [{"role": "user"}] * 4)
    assert db.session_count(source) == 3
    assert db.session_count(new_id("source")) == 0
    assert (db.message_count(names[0]), db.message_count(names[1])) == (4, 0)
    assert (db.session_count(), db.message_count()) == (sessions, messages + 4)
