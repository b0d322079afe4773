"""Reading the file itself: which reads do, and what a reader never does."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sessiond_client import DatabaseError, InvalidParams, Timeout, _direct
from sessiond_client._clock import clock
from sessiond_client._direct import DirectReader, DirectReads, Way
from sessiond_protocol import schema
from sessiond_protocol.requests.message import MessageCount, SearchMessages
from sessiond_protocol.requests.session import SessionCount, SessionGet
from tests.support.migrating import fork


def make(path: Path, *sessions: str) -> None:
    """A database with these sessions."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    for statement in schema.statements():
        connection.execute(statement)
    for name in sessions:
        connection.execute(
            "INSERT INTO sessions (id, source, started_at) VALUES (?, 'cli', 1)", (name,)
        )
    connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "state.db"
    make(made, "one", "two")
    return made


@pytest.fixture
def reader(path: Path) -> Iterator[DirectReader]:
    reader = DirectReader(str(path))
    yield reader
    reader.close()


def soon() -> float:
    return clock() + 10.0


def count(reader: DirectReader) -> int:
    number: int = reader.read(SessionCount(), soon())
    return number


def test_a_read_gives_what_the_daemon_would(reader: DirectReader) -> None:
    assert count(reader) == 2
    assert reader.read(SessionGet(session_id="one"), soon())["source"] == "cli"
    assert reader.read(SessionGet(session_id="none"), soon()) is None


def test_a_reader_keeps_its_connection_and_no_snapshot(reader: DirectReader, path: Path) -> None:
    assert count(reader) == 2
    (seat,) = reader._idle
    with sqlite3.connect(path) as writer:
        writer.execute("INSERT INTO sessions (id, source, started_at) VALUES ('x', 'cli', 1)")
    writer.close()
    assert count(reader) == 3
    assert reader._idle == [seat]
    assert not seat[1].in_transaction


def test_a_reader_cannot_write(reader: DirectReader) -> None:
    count(reader)
    connection = reader._idle[0][1]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM sessions")


def test_a_file_put_in_the_place_of_the_first_is_read(reader: DirectReader, path: Path) -> None:
    assert count(reader) == 2
    other = path.with_name("other.db")
    make(other, "a", "b", "c", "d")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    other.replace(path)
    assert count(reader) == 4


def test_a_missing_or_foreign_file_is_a_database_error(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"missing\.db"):
        count(DirectReader(str(tmp_path / "missing.db")))
    foreign = tmp_path / "foreign.db"
    foreign.write_bytes(b"not a database" * 1000)
    reader = DirectReader(str(foreign))
    assert not reader.can_open()
    with pytest.raises(DatabaseError, match=r"foreign\.db"):
        count(reader)


def test_a_path_is_not_a_query(tmp_path: Path) -> None:
    odd = tmp_path / "50%?mode=rwc#x.db"
    make(odd, "one")
    reader = DirectReader(str(odd))
    assert count(reader) == 1
    reader.close()


def _fill(path: Path) -> None:
    with sqlite3.connect(path) as writer:
        writer.executemany(
            "INSERT INTO messages (session_id, role, content, timestamp)"
            " VALUES ('one', 'user', ?, 1)",
            ((str(number),) for number in range(500)),
        )
    writer.close()


def test_a_read_ends_at_its_deadline_or_when_nobody_wants_it(
    reader: DirectReader, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(path)
    monkeypatch.setattr(_direct, "_STEPS_BETWEEN_LOOKS", 1)
    with pytest.raises(Timeout, match=r"message\.count"):
        reader.read(MessageCount(), clock() - 1.0)
    with pytest.raises(Timeout):
        reader.read(MessageCount(), soon(), lambda: False)
    assert reader.read(MessageCount(), soon()) == 500


def test_what_a_query_refuses_is_an_invalid_argument(
    reader: DirectReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not this")

    monkeypatch.setattr("sessiond_protocol.queries.dispatch.Reader.answer", refuse)
    with pytest.raises(InvalidParams, match="not this"):
        count(reader)


def test_a_child_keeps_the_parents_connections_open(reader: DirectReader) -> None:
    """Closing one would take the locks of the child's own connections along."""
    count(reader)
    child = fork()
    if child == 0:
        before = reader._idle[0][1]
        reader.close()
        before.execute("SELECT 1")  # raises if it was closed
        os._exit(0 if count(reader) == 2 and reader._idle[0][1] is not before else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert count(reader) == 2


# --- which way a read goes -----------------------------------------------------------------

READ = SessionCount()
SEARCH = SearchMessages(query="x")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other SQLite in this process, as far as anybody can see."""
    for name in ("apsw", "pysqlite3"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("alone")
def test_the_way_is_unsure_until_a_daemon_has_opened_the_file(path: Path) -> None:
    for reads in ("direct", "auto"):
        reads_of_file = DirectReads(str(path))
        assert reads_of_file.way(reads, READ) is Way.UNSURE
        assert reads_of_file.way("daemon", READ) is Way.DAEMON
        reads_of_file.look(READ)
        assert reads_of_file.way(reads, READ) is Way.FILE
        assert reads_of_file.way(reads, SEARCH) is Way.UNSURE
        reads_of_file.look(SEARCH)
        assert reads_of_file.way(reads, SEARCH) is Way.FILE
        reads_of_file.reader.close()


@pytest.mark.usefixtures("alone")
def test_a_file_that_cannot_be_opened_is_read_through_the_daemon(tmp_path: Path) -> None:
    reads = DirectReads(str(tmp_path / "missing.db"))
    reads.look(READ)
    assert reads.way("auto", READ) is Way.DAEMON
    assert reads.way("direct", READ) is Way.FILE  # as asked for: the read says what is wrong


@pytest.mark.usefixtures("alone")
def test_search_goes_through_the_daemon_where_python_cannot_search(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_direct, "has_fts5", lambda: False)
    reads = DirectReads(str(path))
    reads.look(SEARCH)
    assert reads.way("auto", SEARCH) is reads.way("direct", SEARCH) is Way.DAEMON
    assert reads.way("auto", READ) is reads.way("direct", READ) is Way.FILE
    reads.reader.close()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ["apsw", "pysqlite3"])
def test_beside_another_sqlite_auto_reads_through_the_daemon(
    path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = DirectReads(str(path))
    reads.look(READ)
    assert reads.way("auto", READ) is Way.FILE
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert reads.way("auto", READ) is Way.DAEMON
    reads.reader.close()
