"""What the calls on sessions do, on both clients and by every way of reading."""

import sqlite3
import time
from typing import Any

import pytest

from sessiond_client import SessionDB
from sessiond_protocol.schema import SESSION_COLUMN_NAMES
from tests.support.clients import new_id


def session(db: SessionDB, session_id: str) -> dict[str, Any]:
    found = db.get_session(session_id)
    assert found is not None
    return found


# --- create, ensure ------------------------------------------------------------------------


def test_create_stores_every_argument_and_returns_the_id(db: SessionDB) -> None:
    parent, name = new_id(), new_id()
    db.create_session(parent, "cli")
    before = time.time()
    config = {"temperature": 0.2, "stop": ["\n"]}
    assert db.create_session(name, "telegram", "m", config, "prompt", "user", parent) == name
    found = session(db, name)
    assert tuple(found) == SESSION_COLUMN_NAMES
    assert before <= found["started_at"] <= time.time()
    assert (found["source"], found["model"], found["system_prompt"]) == ("telegram", "m", "prompt")
    assert (found["user_id"], found["parent_session_id"]) == ("user", parent)
    assert found["model_config"] == '{"temperature":0.2,"stop":["\\n"]}'
    assert (found["ended_at"], found["end_reason"], found["title"]) == (None, None, None)
    assert (found["message_count"], found["tool_call_count"], found["input_tokens"]) == (0, 0, 0)


def test_create_on_an_existing_id_fills_only_what_is_unset(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli", model="first")
    started = session(db, name)["started_at"]
    db.create_session(name, "telegram", "second", {"a": 1}, "prompt", "user")
    found = session(db, name)
    assert (found["source"], found["model"]) == ("cli", "first")
    assert (found["model_config"], found["system_prompt"]) == ('{"a":1}', "prompt")
    assert (found["user_id"], found["started_at"]) == ("user", started)


def test_a_source_unknown_counts_as_unset(db: SessionDB) -> None:
    name = new_id()
    db.ensure_session(name)
    assert session(db, name)["source"] == "unknown"
    db.create_session(name, "telegram", user_id="u")
    found = session(db, name)
    assert (found["source"], found["user_id"]) == ("telegram", "u")


def test_a_parent_that_does_not_exist_is_an_integrity_error_naming_it(db: SessionDB) -> None:
    name, parent = new_id(), new_id("parent")
    with pytest.raises(sqlite3.IntegrityError, match=parent):
        db.create_session(name, "cli", parent_session_id=parent)
    assert db.get_session(name) is None


def test_ensure_never_changes_an_existing_session(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli")
    before = session(db, name)
    assert db.ensure_session(name, "telegram", "model") is None  # type: ignore[func-returns-value]
    assert session(db, name) == before


def test_ensure_makes_a_missing_session(db: SessionDB) -> None:
    name = new_id()
    db.ensure_session(name, "telegram", "model")
    found = session(db, name)
    assert (found["source"], found["model"]) == ("telegram", "model")


def test_an_empty_model_config_is_not_stored(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli", model_config={})
    assert session(db, name)["model_config"] is None


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_nan_is_refused_by_name(db: SessionDB, number: float) -> None:
    name = new_id()
    with pytest.raises(ValueError, match="model_config"):
        db.create_session(name, "cli", model_config={"temperature": number})
    assert db.get_session(name) is None


def test_lone_surrogates_become_replacement_characters(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli", system_prompt="a\ud800b", model_config={"k\udfff": "\ud801"})
    found = session(db, name)
    assert found["system_prompt"] == "a\ufffdb"
    assert found["model_config"] == '{"k\ufffd":"\ufffd"}'


@pytest.mark.parametrize("bad", [None, 5, b"bytes"])
def test_an_id_that_is_not_text_is_refused_by_name(db: SessionDB, bad: Any) -> None:
    with pytest.raises(ValueError, match="session_id"):
        db.create_session(bad, "cli")
    with pytest.raises(ValueError, match="source"):
        db.create_session(new_id(), bad)


# --- end, reopen, prompt -------------------------------------------------------------------


def test_the_first_end_reason_stays_until_the_session_is_reopened(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli")
    before = time.time()
    db.end_session(name, "compression")
    ended = session(db, name)
    assert before <= ended["ended_at"] <= time.time()
    db.end_session(name, "cli_close")
    assert session(db, name) == ended
    assert ended["end_reason"] == "compression"
    db.reopen_session(name)
    assert (session(db, name)["ended_at"], session(db, name)["end_reason"]) == (None, None)
    db.end_session(name, "cli_close")
    assert session(db, name)["end_reason"] == "cli_close"


def test_update_system_prompt(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli", system_prompt="old")
    db.update_system_prompt(name, "new\n\u00fc\u4f60")
    assert session(db, name)["system_prompt"] == "new\n\u00fc\u4f60"


def test_updates_of_a_missing_session_change_nothing(db: SessionDB) -> None:
    name = new_id()
    db.end_session(name, "x")
    db.reopen_session(name)
    db.update_system_prompt(name, "x")
    db.clear_messages(name)
    assert db.get_session(name) is None


# --- find ----------------------------------------------------------------------------------


def test_a_missing_session_is_none(db: SessionDB) -> None:
    assert db.get_session(new_id()) is None


def test_resolve_takes_the_exact_id_or_an_unambiguous_prefix(db: SessionDB) -> None:
    base = new_id("resolve")
    for suffix in ("", "-a1", "-a2", "-b"):
        db.create_session(base + suffix, "cli")
    assert db.resolve_session_id(base) == base
    assert db.resolve_session_id(f"{base}-b") == f"{base}-b"
    assert db.resolve_session_id(f"{base}-") is None
    assert db.resolve_session_id(f"{base}-a") is None
    assert db.resolve_session_id(f"{base}-A1") is None
    assert db.resolve_session_id(new_id()) is None
    assert db.resolve_session_id("") is None


@pytest.mark.parametrize("wildcard", ["%", "_", "\\"])
def test_wildcards_in_a_prefix_are_literal(db: SessionDB, wildcard: str) -> None:
    base = new_id("like")
    db.create_session(f"{base}x1", "cli")
    assert db.resolve_session_id(base + wildcard) is None
    db.create_session(f"{base}{wildcard}1", "cli")
    assert db.resolve_session_id(base + wildcard) == f"{base}{wildcard}1"


# --- delete, prune -------------------------------------------------------------------------


def test_delete_takes_messages_along_and_orphans_children(db: SessionDB) -> None:
    parent, child = new_id(), new_id()
    db.create_session(parent, "cli")
    db.create_session(child, "cli", parent_session_id=parent)
    db.append_message(parent, "user", "hello")
    db.append_message(child, "user", "hello")
    assert db.delete_session(parent) is True
    assert db.get_session(parent) is None
    assert db.message_count(parent) == 0
    assert session(db, child)["parent_session_id"] is None
    assert db.message_count(child) == 1
    assert db.delete_session(parent) is False


def test_prune_deletes_old_ended_sessions_of_a_source(db: SessionDB) -> None:
    source, other = new_id("source"), new_id("source")
    names = [new_id() for _ in range(4)]
    ended, open_still, elsewhere, child = names
    for name, where in ((ended, source), (open_still, source), (elsewhere, other)):
        db.create_session(name, where)
    db.create_session(child, source, parent_session_id=ended)
    db.append_message(ended, "user", "hello")
    db.end_session(ended, "done")
    db.end_session(elsewhere, "done")
    assert db.prune_sessions(1, source) == 0
    assert db.prune_sessions(older_than_days=-1, source=source) == 1
    assert [db.get_session(name) is None for name in names] == [True, False, False, False]
    assert session(db, child)["parent_session_id"] is None
    assert db.message_count(ended) == 0


def test_prune_needs_a_number(db: SessionDB) -> None:
    with pytest.raises(ValueError, match="older_than_days"):
        db.prune_sessions(float("nan"))
