"""What lists, search, export and statistics do, on both clients and by every way of reading."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessiond_client import SessionDB
from sessiond_protocol.schema import MESSAGE_COLUMN_NAMES, SESSION_COLUMN_NAMES
from tests.support.clients import new_id


def sessions(db: SessionDB, source: str, count: int) -> list[str]:
    """New sessions of a source, oldest first."""
    names = [new_id() for _ in range(count)]
    for name in names:
        db.create_session(name, source)
    return names


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in found]


# --- lists ---------------------------------------------------------------------------------


def test_search_sessions_is_newest_first(db: SessionDB) -> None:
    source = new_id("source")
    names = sessions(db, source, 5)[::-1]
    assert ids(db.search_sessions(source)) == names
    assert ids(db.search_sessions(source, 2)) == names[:2]
    assert ids(db.search_sessions(source, 2, 3)) == names[3:]
    assert ids(db.search_sessions(limit=3)) == names[:3]
    assert db.search_sessions(source, limit=0) == []
    assert tuple(db.search_sessions(source)[0]) == SESSION_COLUMN_NAMES


def test_list_sessions_rich_adds_a_preview_and_the_last_activity(db: SessionDB) -> None:
    source = new_id("source")
    silent, spoken, long = sessions(db, source, 3)
    db.append_message(spoken, "system", "be kind", timestamp=1.0)
    db.append_message(spoken, "user", None, timestamp=2.0)
    db.append_message(spoken, "user", " first\nline\r\nof it ", timestamp=3.0)
    db.append_message(spoken, "user", "second", timestamp=9.0)
    db.append_message(spoken, "assistant", "clock went back", timestamp=4.0)
    db.append_message(long, "user", "x" * 61, timestamp=5.0)
    found = {each["id"]: each for each in db.list_sessions_rich(source)}
    assert list(found) == [long, spoken, silent]
    assert found[silent]["preview"] == ""
    assert found[silent]["last_active"] == found[silent]["started_at"]
    assert found[spoken]["preview"] == "first line  of it"
    assert found[spoken]["last_active"] == 4.0
    assert found[long]["preview"] == "x" * 60 + "..."
    assert tuple(found[long])[: len(SESSION_COLUMN_NAMES)] == SESSION_COLUMN_NAMES


def test_list_sessions_rich_filters_and_pages(db: SessionDB) -> None:
    source, other = new_id("source"), new_id("source")
    names = sessions(db, source, 4)[::-1]
    newest = sessions(db, other, 1)
    assert ids(db.list_sessions_rich(source, limit=2, offset=1)) == names[1:3]
    assert ids(db.list_sessions_rich(limit=1)) == newest
    assert ids(db.list_sessions_rich(exclude_sources=[other], limit=4)) == names
    assert db.list_sessions_rich(source, exclude_sources=[source]) == []
    assert ids(db.list_sessions_rich(source, exclude_sources=[])) == names


@pytest.mark.parametrize("argument", ["limit", "offset"])
def test_negative_bounds_are_refused_by_name(db: SessionDB, argument: str) -> None:
    given: dict[str, Any] = {argument: -1}
    calls: list[Callable[..., Any]] = [db.search_sessions, db.list_sessions_rich]
    for call in calls:
        with pytest.raises(ValueError, match=argument):
            call(**given)
    with pytest.raises(ValueError, match=argument):
        db.search_messages("word", **given)


# --- search --------------------------------------------------------------------------------


def test_a_hit_says_where_it_is_and_what_is_around_it(db: SessionDB) -> None:
    word = new_id("w").replace("-", "")
    (name, between), source = sessions(db, "cli", 2), "cli"
    db.update_token_counts(name, model="m")
    db.append_message(name, "user", "before" * 100)
    db.append_message(between, "user", "of another session")
    hit = db.append_message(name, "assistant", f"it is {word} indeed", tool_name="t", timestamp=5.0)
    db.append_message(between, "user", "of another session")
    db.append_message(name, "user", "after")
    (found,) = db.search_messages(word)
    started = db.get_session(name)
    assert started is not None
    assert found == {
        "id": hit,
        "session_id": name,
        "role": "assistant",
        "snippet": f"it is >>>{word}<<< indeed",
        "timestamp": 5.0,
        "tool_name": "t",
        "source": source,
        "model": "m",
        "session_started": started["started_at"],
        "context": [
            {"role": "user", "content": ("before" * 100)[:200]},
            {"role": "assistant", "content": f"it is {word} indeed"},
            {"role": "user", "content": "after"},
        ],
    }


def test_search_filters(db: SessionDB) -> None:
    word = new_id("w").replace("-", "")
    one, two = new_id("source"), new_id("source")
    for source in (one, two):
        (name,) = sessions(db, source, 1)
        db.append_message(name, "user", f"{word} asked")
        db.append_message(name, "assistant", f"{word} answered")

    def hits(**named: Any) -> list[tuple[str, str]]:
        return sorted((each["source"], each["role"]) for each in db.search_messages(word, **named))

    everything = sorted((source, role) for source in (one, two) for role in ("user", "assistant"))
    assert hits() == everything
    assert hits(source_filter=None) == everything
    assert hits(source_filter=[]) == []
    assert hits(source_filter=[one]) == [(one, "assistant"), (one, "user")]
    assert hits(exclude_sources=[one]) == [(two, "assistant"), (two, "user")]
    assert hits(exclude_sources=[]) == everything
    assert hits(role_filter=["user"]) == sorted([(one, "user"), (two, "user")])
    assert hits(role_filter=[]) == everything
    assert len(hits(limit=3)) == 3
    assert len(hits(limit=3, offset=3)) == 1
    with pytest.raises(ValueError, match="source_filter"):
        db.search_messages(word, source_filter=one)


@pytest.mark.parametrize("blank", ["", "   ", "\x00", "!!!", '"', "*"])
def test_a_blank_query_finds_nothing(db: SessionDB, blank: str) -> None:
    assert db.search_messages(blank) == []


def test_a_search_sees_what_was_acknowledged(db: SessionDB) -> None:
    word = new_id("w").replace("-", "")
    (name,) = sessions(db, "cli", 1)
    assert db.search_messages(word) == []
    db.append_message(name, "user", word)
    assert len(db.search_messages(word)) == 1
    db.replace_messages(name, [{"role": "user", "content": f"{word} {word}"}])
    assert len(db.search_messages(word)) == 1
    db.clear_messages(name)
    assert db.search_messages(word) == []


# --- export --------------------------------------------------------------------------------


def test_export_holds_a_session_and_its_messages(db: SessionDB) -> None:
    (name,) = sessions(db, "cli", 1)
    db.append_message(name, "user", [{"type": "text", "text": "hello"}])
    exported = db.export_session(name)
    assert exported is not None
    messages = exported.pop("messages")
    assert exported == db.get_session(name)
    assert messages == db.get_messages(name)
    assert tuple(messages[0]) == MESSAGE_COLUMN_NAMES
    json.dumps([exported, messages])
    assert db.export_session(new_id()) is None


def test_export_all_and_iter_export_hold_every_session_of_a_source(db: SessionDB) -> None:
    source = new_id("source")
    names = sessions(db, source, 3)
    db.append_message(names[1], "user", "hello")
    exported = db.export_all(source)
    assert sorted(ids(exported)) == sorted(names)
    assert {each["id"]: len(each["messages"]) for each in exported} == dict(
        zip(names, [0, 1, 0], strict=True)
    )
    iterated = db.iter_export(source)
    assert isinstance(iterated, Iterator)
    assert list(iterated) == exported
    assert db.export_all(new_id("source")) == []
    assert {*names} <= {*ids(db.export_all())} == {*ids(list(db.iter_export()))}


def test_an_export_of_more_than_a_page(db: SessionDB) -> None:
    source = new_id("source")
    with db.batch() as batch:
        for number in range(450):
            batch.create_session(f"{source}-{number:03}", source)
    exported = ids(list(db.iter_export(source)))
    assert sorted(exported) == [f"{source}-{number:03}" for number in range(450)]
    assert ids(db.export_all(source)) == exported


# --- the daemon ----------------------------------------------------------------------------


def test_statistics_have_what_the_in_process_store_had(db: SessionDB) -> None:
    before = db.get_stats()
    assert before.keys() >= {
        "total_writes", "batched_writes", "batch_count", "pending_writes", "write_count",
        "pool_size", "sessions", "messages", "checkpoint",
    }  # fmt: skip
    assert before["checkpoint"].keys() >= {"busy", "log", "checkpointed"}
    (name,) = sessions(db, "cli", 1)
    db.append_message(name, "user", "hello")
    after = db.get_stats()
    assert after["total_writes"] == before["total_writes"] + 2
    assert (after["sessions"], after["messages"]) == (
        before["sessions"] + 1, before["messages"] + 1,
    )  # fmt: skip


def test_the_change_counter_differs_after_a_commit_only(db: SessionDB) -> None:
    (name,) = sessions(db, "cli", 1)
    before = db.get_change_counter()
    assert db.get_change_counter() == before
    db.append_message(name, "user", "hello")
    assert db.get_change_counter() != before


def test_lists_sort_by_start_and_not_by_name(db: SessionDB) -> None:
    source = new_id("source")
    second, first = f"{source}-a", f"{source}-b"
    db.create_session(first, source)
    db.create_session(second, source)
    assert ids(db.search_sessions(source)) == [second, first]
