"""Indexing at the end of a batch: what is pending, what is deleted, and damage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import MessageClear, MessageReplace
from sessiond_protocol.requests.session import SessionDelete
from tests.unit.daemon.stores import (
    Opened,
    appending,
    foreign,
    foreign_message,
    integrity,
    message,
    opened,
    together,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("a", "first apple", "second pear")
        made.append("b", "third apple")
        yield made


def _indexing(file: Opened, *requests: Request[Any]) -> list[str]:
    """The statements on ``messages_fts`` that a batch takes."""
    with file.statements() as seen:
        file.results(*requests)
    return [sql for sql in seen if "messages_fts" in sql and "'flush'" not in sql]


def test_a_batch_is_indexed_with_one_statement(file: Opened) -> None:
    seen = _indexing(file, *(appending("a", f"apple {number}") for number in range(20)))
    assert len(seen) == 1
    assert len(file.found("apple")) == 22


def test_rows_of_the_same_batch_are_forgotten_not_deleted(file: Opened) -> None:
    seen = _indexing(
        file,
        appending("a", "fresh plum"),
        MessageClear(session_id="a"),
        appending("b", "kept plum"),
    )
    assert len(seen) == 2  # the delete of the old rows, the insert of the one that stays
    assert file.found("plum") == [5]
    assert file.found("pear") == []
    integrity(file.connection)


def test_a_replaced_transcript_is_found_by_its_new_text_alone(file: Opened) -> None:
    file.results(
        appending("a", "in between"),
        MessageReplace(session_id="a", messages=[message("fig"), message(None), message("fig")]),
        MessageReplace(session_id="a", messages=[message("grape")]),
    )
    assert file.found("fig OR between OR pear") == []
    assert len(file.found("grape")) == 1
    integrity(file.connection)


def test_a_rolled_back_part_gives_its_ids_to_the_next(file: Opened) -> None:
    outcomes = file.apply(
        together(appending("a", "lost melon"), appending("b", "lost melon"), appending("no", "x")),
        appending("a", "melon stays"),
        together(MessageClear(session_id="b"), appending("no", "x")),
        SessionDelete(session_id="a"),
        appending("b", "melon too"),
    )
    assert [outcome.error is None for outcome in outcomes] == [False, True, False, True, True]
    # The id of the cleared row of this batch is not given again, that of the lost ones was.
    assert file.found("melon") == [5]
    assert file.found("apple") == [3]
    integrity(file.connection)


def test_an_empty_index_bears_a_delete_of_what_the_batch_appended(tmp_path: Path) -> None:
    with opened(tmp_path / "new.db") as file:
        file.append("a")
        file.results(appending("a", "gone"), SessionDelete(session_id="a"))
        integrity(file.connection)
        assert file.index_state == ""


def test_rows_of_other_programs_are_deleted_with_their_text(file: Opened) -> None:
    with foreign(file.path) as other:
        foreign_message(other, "a", "foreign cherry")
        other.execute("UPDATE messages SET content = 'changed cherry' WHERE id = 1")
    assert file.found("cherry") == [1, 4]
    file.results(SessionDelete(session_id="a"))
    assert file.found("cherry") == []
    integrity(file.connection)


# --- damage ----------------------------------------------------------------------------------


def _break(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("UPDATE messages_fts_data SET block = x'ffffffffffff' WHERE id = 10")


def test_damage_of_the_index_never_refuses_a_message(file: Opened) -> None:
    _break(file)
    applied = file.results(appending("a", "stored apple"), SessionDelete(session_id="b"))
    assert applied == [4, True]
    assert "damaged" in file.index_state
    health = file.store.health()
    assert health["writable"] is True
    assert health["index"]["state"] == "degraded"
    file.settle()
    assert file.index_state == ""
    assert file.found("apple") == [1, 4]
    assert file.check().sound


def test_while_the_index_is_damaged_no_statement_touches_it(file: Opened) -> None:
    _break(file)
    file.results(appending("a", "one"))
    assert _indexing(file, appending("a", "two"), MessageClear(session_id="a")) == []


def test_damage_is_remembered_across_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("a", "apple")
        _break(file)
        file.append("a", "apple")
    with opened(path) as file:
        assert file.store.health()["index"]["state"] == "degraded"
        file.settle()
        assert file.found("apple") == [1, 2]


def test_damage_that_a_failing_batch_found_is_kept(file: Opened) -> None:
    _break(file)
    outcomes = file.apply(appending("nobody", "x"), appending("a", "y"))
    assert [outcome.error is None for outcome in outcomes] == [False, True]
    assert "damaged" in file.index_state


def test_damage_under_the_index_is_damage_of_the_index(tmp_path: Path) -> None:
    """Not only what FTS5 itself calls corrupt: a page of its tables may be."""
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("a", *(f"word{number} " * 30 for number in range(300)))
        root = file.value("SELECT rootpage FROM sqlite_schema WHERE name = 'messages_fts_data'")
        size = file.value("PRAGMA page_size")
    with path.open("r+b") as raw:
        raw.seek((root - 1) * size)
        raw.write(b"\xff" * size)
    with opened(path) as file:
        assert file.results(appending("a", "still stored")) == [301]
        assert "damaged" in file.index_state
        assert file.store.health()["writable"] is True
        # What cannot even be removed cannot be made anew; nobody tries for ever.
        file.settle()
        assert "cannot be removed" in file.index_state
        assert file.results(appending("a", "stored too")) == [302]


def test_damage_that_only_counting_meets_is_damage_of_the_index(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("a", *(f"word{number}" for number in range(2000)))
        sql = "SELECT pageno FROM dbstat WHERE name = 'messages_fts_docsize' AND pagetype = 'leaf'"
        page, size = file.value(f"{sql} LIMIT 1 OFFSET 1"), file.value("PRAGMA page_size")
    with path.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(b"\xff" * size)
    with opened(path) as file:
        file.settle()
        assert "cannot be removed" in file.index_state
        assert file.store.health()["writable"] is True
        assert file.results(appending("a", "still stored")) == [2001]
