"""Several writes as one request, on both clients and by every way of reading."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

import sessiond_client
from sessiond_client import SessionDB
from tests.support.clients import new_id

Fill = Callable[[Any], object]


def apply(db: SessionDB, *fills: Fill) -> list[Any]:
    """Fill a batch and end its block; its results."""
    with db.batch() as batch:
        for fill in fills:
            fill(batch)
    return batch.results


def test_a_batch_is_one_write_and_returns_what_the_calls_return(db: SessionDB) -> None:
    old, new, title = new_id(), new_id(), new_id("title")
    db.create_session(old, "cli")
    db.append_message(old, "user", "hello")
    before = db.get_stats()["total_writes"]
    with db.batch() as batch:
        assert batch.end_session(old, "compression") == 0
        assert batch.create_session(new, "cli", parent_session_id=old) == 1
        assert batch.set_session_title(new, f" {title}\u200b") == 2
        assert batch.update_system_prompt(new, "prompt") == 3
        assert batch.append_message(new, "user", ["parts"], message_key="k") == 4
        assert batch.append_messages(new, [{"role": "user"}, {"message_key": "k"}]) == 5
        assert batch.update_token_counts(new, 5, model="m") == 6
        assert batch.set_token_counts(new, 6, 7) == 7
        assert batch.ensure_session(new) == 8
        assert batch.replace_messages(old, [{"role": "user"}]) == 9
        assert batch.set_session_title(new_id(), "x") == 10
        assert batch.reopen_session(old) == 11
        assert batch.clear_messages(old) == 12
        assert batch.delete_session(new_id()) == 13
        assert len(batch) == 14
        assert batch.results == []
        assert db.get_session(new) is None
    first, key, *_ = batch.results[4], batch.results[5]
    assert key == [first + 1, first]
    assert batch.results == [
        None, new, True, None, first, key, None, None, None, 1, False, None, None, False,
    ]  # fmt: skip
    assert db.get_stats()["total_writes"] == before + 1
    found = db.get_session(new)
    assert found is not None
    assert (found["title"], found["system_prompt"], found["parent_session_id"]) == (
        title, "prompt", old,
    )  # fmt: skip
    assert (found["input_tokens"], found["output_tokens"], found["model"]) == (6, 7, "m")
    assert [each["content"] for each in db.get_messages(new)] == [["parts"], None]


def test_a_batch_that_fails_names_the_write_and_stores_nothing(db: SessionDB) -> None:
    name, missing = new_id(), new_id()
    with pytest.raises(sqlite3.IntegrityError, match=rf"item 1 .*{missing}") as caught:
        apply(
            db,
            lambda batch: batch.create_session(name, "cli"),
            lambda batch: batch.append_message(missing, "user", "hello"),
        )
    assert isinstance(caught.value, sessiond_client.Integrity)
    assert caught.value.data["item"] == 1
    assert db.get_session(name) is None


def test_a_title_conflict_in_a_batch_is_a_value_error(db: SessionDB) -> None:
    title, holder, name = new_id("title"), new_id(), new_id()
    db.create_session(holder, "cli")
    db.set_session_title(holder, title)
    with pytest.raises(ValueError, match=rf"item 1 .*{holder}"):
        apply(
            db,
            lambda batch: batch.create_session(name, "cli"),
            lambda batch: batch.set_session_title(name, title),
        )
    assert db.get_session(name) is None


def test_a_block_that_raises_sends_nothing(db: SessionDB) -> None:
    name = new_id()
    before = db.get_stats()["total_writes"]

    def fail(batch: Any) -> None:
        batch.create_session(name, "cli")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        apply(db, fail)
    with pytest.raises(ValueError, match="timestamp"):
        apply(
            db,
            lambda batch: batch.create_session(name, "cli"),
            lambda batch: batch.append_message(name, "user", timestamp=float("nan")),
        )
    assert apply(db) == []
    assert db.get_session(name) is None
    assert db.get_stats()["total_writes"] == before


def test_a_batch_collects_inside_its_one_block_only(db: SessionDB) -> None:
    name = new_id()
    batch = db.batch()
    with pytest.raises(RuntimeError, match="inside its block"):
        getattr(batch, "_batch", batch).create_session(name, "cli")
    with batch as collecting:
        collecting.create_session(name, "cli")
    with pytest.raises(RuntimeError, match="inside its block"):
        collecting.create_session(name, "cli")
    with pytest.raises(RuntimeError, match="one block"), batch:
        pass


def test_a_batch_offers_every_write_and_no_read() -> None:
    calls = {each for each in vars(sessiond_client._batch_calls.BatchCalls) if each[0] != "_"}
    writes = {
        name
        for name in vars(SessionDB)
        if name.split("_")[0] in {"create", "ensure", "end", "reopen", "update", "set", "delete",
                                  "append", "replace", "clear"}
    }  # fmt: skip
    assert calls == writes - {"append_message_nowait"}
