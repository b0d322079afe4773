"""Rebuilding the search index: at once, in slices, and with other programs in between."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from sessiond_protocol.requests.message import MessageAppendMany, MessageClear, MessageReplace
from sessiond_protocol.requests.session import SessionDelete
from sessiond_protocol.schema import FTS_TRIGGERS
from tests.unit.daemon.stores import (
    Clock,
    Opened,
    appending,
    foreign,
    foreign_message,
    integrity,
    message,
    opened,
)

# Enough text that a rebuild in slices takes several of them.
FILLER = "filler " * 300


@pytest.fixture
def sliced(tmp_path: Path) -> Iterator[Opened]:
    """A damaged file whose size calls for slices."""
    with opened(tmp_path / "state.db", rebuild_at_once=10) as made:
        for part in range(10):
            made.append("a" if part % 2 else "b", *(f"apple {part} {FILLER}" for _ in range(20)))
        made.settle()
        _damage(made)
        yield made


def _damage(file: Opened) -> None:
    file.append("c", "before the damage")
    with foreign(file.path) as other:
        other.execute("UPDATE messages_fts_data SET block = x'ffffffffffff' WHERE id = 10")
    file.append("c", "after the damage")
    assert "damaged" in file.index_state


def _until(file: Opened, done: int) -> None:
    """Care for the file until the second index holds rows up to an id."""
    for _ in range(100):
        progress = file.store.health()["index"]["rebuild"]
        if progress is not None and progress["done"] >= done:
            return
        assert file.store.care(idle=True)
    raise AssertionError(f"the rebuild does not reach {done}")


def _next_is_kept(file: Opened) -> None:
    """The second index holds exactly the messages up to the cursor, as FTS5 sees it."""
    file.connection.execute("BEGIN")
    try:
        cursor = file.value("SELECT rebuild_cursor FROM sessiond_meta")
        indexed = "INSERT INTO sessiond_fts_next (rowid, content) SELECT id, content FROM messages"
        file.connection.execute(f"{indexed} WHERE id > ?", (cursor,))
        file.connection.execute(
            "INSERT INTO sessiond_fts_next (sessiond_fts_next, rank) VALUES ('integrity-check', 1)"
        )
    finally:
        file.connection.execute("ROLLBACK")


def _whole(file: Opened) -> None:
    assert file.index_state == ""
    assert file.value("SELECT rebuild_cursor IS NULL FROM sessiond_meta") == 1
    health = file.store.health()
    assert health["index"]["state"] == "healthy"
    assert health["schema"]["mode"] == "ours"
    integrity(file.connection)
    found = file.rows("SELECT name FROM sqlite_schema WHERE name LIKE '%fts_next%'")
    assert found == []
    triggers = {row[0] for row in file.rows("SELECT name FROM sqlite_schema WHERE type='trigger'")}
    assert triggers == set(FTS_TRIGGERS)
    assert file.check().counts.keys() <= {"counter"}  # which other programs keep their own way


# --- at once ---------------------------------------------------------------------------------


def test_a_small_index_is_rebuilt_at_once_with_a_heartbeat(tmp_path: Path) -> None:
    beats: list[int] = []
    with opened(tmp_path / "state.db", beat=lambda: beats.append(1)) as file:
        file.append("a")
        texts = [message("apple")] * 20_000
        file.results(MessageAppendMany(session_id="a", messages=texts))
        file.settle()
        _damage(file)
        file.settle()
        _whole(file)
        assert len(file.found("apple")) == 20_000
        assert beats  # somebody who watches sees that it is alive
        assert file.store.health()["index"]["rebuilds"] == 1


def test_an_index_that_cannot_be_emptied_is_made_anew(tmp_path: Path) -> None:
    with opened(tmp_path / "state.db") as file:
        file.append("a", "apple")
        with foreign(file.path) as other:
            other.execute("DROP TABLE messages_fts_docsize")
        file.append("a", "apple")
        assert "damaged" in file.index_state
        file.settle()
        _whole(file)
        assert file.found("apple") == [1, 2]


def test_messages_that_cannot_be_read_stop_the_writing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("a", "apple", "long " * 5000)
        (page,) = file.rows(
            "SELECT min(pageno) FROM dbstat WHERE name = 'messages' AND pagetype = 'overflow'"
        )[0]
        size = file.value("PRAGMA page_size")
    with path.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(b"\xff\xff\xff\xff")  # the next page of the text
    with opened(path) as file:
        _damage(file)
        file.settle()
        health = file.store.health()
        assert health["writable"] is False
        assert "damaged" in health["reason"]


# --- in slices -------------------------------------------------------------------------------


def test_slices_fill_a_second_index_that_takes_its_place(sliced: Opened) -> None:
    commits = sliced.store.commits
    turns = sliced.care()
    _whole(sliced)
    assert turns > 4
    assert sliced.store.commits - commits > 4
    assert len(sliced.found("apple")) == 200
    assert sliced.found("damage") == [201, 202]


def test_a_view_over_the_index_is_not_in_the_way(sliced: Opened) -> None:
    with foreign(sliced.path) as other:
        other.execute("CREATE VIEW apples AS SELECT rowid FROM messages_fts('apple')")
    sliced.settle()
    _whole(sliced)
    assert sliced.value("SELECT count(*) FROM apples") == 200


def test_our_changes_during_slices_reach_both_sides_of_the_cursor(sliced: Opened) -> None:
    _until(sliced, 60)
    sliced.results(
        SessionDelete(session_id="a"),
        appending("b", "later banana"),
        MessageReplace(session_id="c", messages=[message("kiwi"), message("kiwi")]),
    )
    _next_is_kept(sliced)
    sliced.store.care(idle=True)
    sliced.results(appending("b", "cherry"), MessageClear(session_id="c"))
    _next_is_kept(sliced)
    sliced.care()
    _whole(sliced)
    assert len(sliced.found("apple")) == 100
    assert sliced.found("kiwi") == []
    assert len(sliced.found("banana OR cherry")) == 2


def test_other_programs_can_delete_while_slices_are_filled(sliced: Opened) -> None:
    """Their triggers would fail on an index that does not hold what they delete."""
    _until(sliced, 60)
    with foreign(sliced.path) as other:
        other.execute("DELETE FROM messages WHERE id IN (5, 150)")
        foreign_message(other, "b", "foreign fig")
    with sliced.statements() as seen:
        sliced.results(SessionDelete(session_id="a"))
    # Nobody knows what the second index holds any more; it is begun anew.
    assert [sql for sql in seen if "sessiond_fts_next" in sql] == []
    sliced.settle()
    _whole(sliced)
    assert len(sliced.found("fig")) == 1


def test_the_third_start_is_made_in_one_transaction(sliced: Opened) -> None:
    starts = []
    with foreign(sliced.path) as other:
        for _ in range(10):
            progress = sliced.store.health()["index"]["rebuild"]
            starts.append(progress["starts"] if progress else None)
            sliced.store.care(idle=True)
            foreign_message(other, "b", "foreign fig")
            if sliced.store.health()["index"]["rebuilds"]:
                break
    assert sliced.store.health()["index"]["rebuilds"] == 1
    assert [each for each in dict.fromkeys(starts) if each] == [1, 2]
    sliced.settle()
    _whole(sliced)


class Interrupting(Clock):
    """Lets another program act after the next turn's look at the file."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.act: Callable[[], None] | None = None

    def __call__(self) -> float:
        self.calls += 1
        if self.act is not None and self.calls == 2:
            act, self.act = self.act, None
            act()
        return super().__call__()


def _change(other: apsw.Connection) -> None:
    other.execute("UPDATE messages SET content = 'pear' WHERE id = 2")


@pytest.mark.parametrize("turn", range(1, 8))
def test_a_change_after_the_last_look_is_not_missed(tmp_path: Path, turn: int) -> None:
    """Not even right before the second index takes its place."""
    path, clock = tmp_path / "state.db", Interrupting()
    with opened(path, clock=clock, rebuild_at_once=10) as file, foreign(path) as other:
        file.clock = clock
        file.append("a", *(f"apple {FILLER}" for _ in range(100)))
        file.settle()
        _damage(file)
        for _ in range(turn):
            file.store.care(idle=True)
        clock.calls = 0
        # The triggers are away, so nobody but us will index this.
        clock.act = lambda: _change(other)
        file.settle()
        assert clock.act is None
        _whole(file)
        assert file.found("pear") == [2]


def test_a_restart_in_the_middle_begins_again(tmp_path: Path) -> None:
    """Nobody knows what other programs did meanwhile."""
    path = tmp_path / "state.db"
    with opened(path, rebuild_at_once=10) as file:
        file.append("a", *(f"apple {FILLER}" for _ in range(200)))
        file.settle()
        _damage(file)
        _until(file, 50)
    with foreign(path) as other:
        other.execute("UPDATE messages SET content = 'changed' WHERE id = 3")
        other.execute("DELETE FROM messages WHERE id = 7")
    with opened(path, rebuild_at_once=10) as file:
        assert file.store.health()["index"]["rebuild"] is None
        file.settle()
        _whole(file)
        assert file.found("changed") == [3]
        assert len(file.found("apple")) == 198


@pytest.mark.parametrize("step", range(1, 12))
def test_an_interruption_anywhere_is_harmless(tmp_path: Path, step: int) -> None:
    class Killed(BaseException):
        pass

    left = [10**9]

    def point(name: str) -> None:
        if name == "before commit":
            left[0] -= 1
            if not left[0]:
                raise Killed

    path = tmp_path / "state.db"
    file = Opened(path, rebuild_at_once=10, crash_point=point)
    try:
        file.append("a", *(f"apple {FILLER}" for _ in range(150)))
        file.settle()
        _damage(file)
        left[0] = step
        with contextlib.suppress(Killed):
            file.care()
    finally:
        file.connection.close()  # as a process that ends: what is uncommitted is gone
    with opened(path, rebuild_at_once=10) as again:
        again.settle()
        _whole(again)
        assert len(again.found("apple")) == 150


def test_a_damaged_second_index_is_begun_again(sliced: Opened) -> None:
    _until(sliced, 60)
    sql = "UPDATE sessiond_fts_next_data SET block = x'ffffffffffff' WHERE id = 10"
    sliced.connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    sliced.connection.execute(sql)
    sliced.connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    sliced.results(SessionDelete(session_id="a"))
    sliced.settle()
    _whole(sliced)


def test_a_second_index_that_lacks_messages_does_not_take_the_place(sliced: Opened) -> None:
    _until(sliced, 60)
    sliced.connection.execute(
        "INSERT INTO sessiond_fts_next (sessiond_fts_next, rowid, content)"
        " SELECT 'delete', id, content FROM messages WHERE id = 8"
    )
    sliced.settle()
    _whole(sliced)
    assert 8 in sliced.found("apple")
    assert sliced.store.health()["index"]["rebuilds"] == 1


# --- with another program's triggers ----------------------------------------------------------


def test_our_index_beside_foreign_triggers_is_rebuilt_at_once(tmp_path: Path) -> None:
    with opened(tmp_path / "state.db", rebuild_at_once=1) as file:
        file.append("a", "apple", "apple")
        with foreign(file.path) as other:
            other.execute("CREATE TABLE seen (id INTEGER)")
            other.execute(
                "CREATE TRIGGER watch AFTER INSERT ON messages BEGIN"
                " INSERT INTO seen VALUES (new.id); END"
            )
        file.append("a", "apple")
        assert file.rows("SELECT id FROM seen") == [(3,)]
        with foreign(file.path) as other:
            other.execute("UPDATE messages_fts_data SET block = x'ffffffffffff' WHERE id = 10")
        file.append("a", "apple")
        assert file.index_state != ""
        file.settle()
        assert file.index_state == ""
        assert file.found("apple") == [1, 2, 3, 4]
        file.append("a", "apple")
        assert file.rows("SELECT id FROM seen") == [(3,), (5,)]
        integrity(file.connection)
