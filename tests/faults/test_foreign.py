"""Other programs do to the files what they should not: loud, specific, and nothing untrue."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sessiond_client import DatabaseError, OutcomeUnknown, SessionDB
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State, StateFile
from tests.support.faults import FaultyDaemon
from tests.support.foreign import Foreign

EX_IOERR = 74


@pytest.fixture
def served(faulty: FaultyDaemon) -> FaultyDaemon:
    """A running daemon that checkpoints nothing by itself within a test."""
    faulty.options = ("--lock-timeout", "500ms")
    faulty.start()
    return faulty


@contextmanager
def client(daemon: FaultyDaemon, timeout: float) -> Iterator[SessionDB]:
    """A client with one session of three messages."""
    with SessionDB(**daemon.arguments, reads="daemon", timeout=timeout) as made:
        made.create_session("s", "test")
        for number in range(3):
            made.append_message("s", "user", f"message {number}")
        yield made


@pytest.fixture
def db(served: FaultyDaemon) -> Iterator[SessionDB]:
    """One that waits as long as it takes."""
    with client(served, 30.0) as made:
        yield made


@pytest.fixture
def hasty(served: FaultyDaemon) -> Iterator[SessionDB]:
    """One that gives up soon."""
    with client(served, 1.0) as made:
        yield made


def said(daemon: FaultyDaemon) -> StateFile:
    """What the daemon left word of."""
    found = state_file.read(paths.state_file(str(daemon.database)))
    assert found is not None
    return found


def contents(path: Path) -> list[str]:
    """A database's texts as another program sees them."""
    with closing(sqlite3.connect(path)) as connection:
        return [text for (text,) in connection.execute("SELECT content FROM messages ORDER BY id")]


# --- the write lock ------------------------------------------------------------------------


def test_a_foreign_lock_is_waited_for_and_then_named(served: FaultyDaemon, db: SessionDB) -> None:
    """Writes wait up to the lock timeout; reads go on; the message says who it is."""
    program = "c = connect(); c.execute('BEGIN IMMEDIATE'); pause(); c.execute('COMMIT'); c.close()"
    with Foreign(program, served.database) as other:
        other.wait_for_pause()
        with pytest.raises(DatabaseError, match=f"write lock .*pid {other.pid}") as refused:
            db.append_message("s", "user", "in vain")
        assert refused.value.data == {"applied": False}
        assert len(db.get_messages("s")) == 3
        waiting = db.append_message_nowait("s", "user", "just in time")
        other.finish()
        assert waiting.result() == 4
    assert [each["content"] for each in db.get_messages("s")][3:] == ["just in time"]


def test_a_program_that_is_killed_inside_its_transaction_is_in_nobodys_way(
    served: FaultyDaemon, db: SessionDB
) -> None:
    program = """
c = connect()
c.execute('BEGIN IMMEDIATE')
c.execute("UPDATE sessions SET title = 'half'")
pause()
"""
    with Foreign(program, served.database) as other:
        other.wait_for_pause()
        waiting = db.append_message_nowait("s", "user", "behind it")
        os.kill(other.pid, signal.SIGKILL)
        assert waiting.result() == 4
    assert db.get_session_title("s") is None


# --- the files -----------------------------------------------------------------------------


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _replace(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy(path, other)
    other.rename(path)


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "log deleted": (lambda path: _log(path).unlink(), "state.db-wal was deleted"),
    "log emptied": (lambda path: os.truncate(_log(path), 0), "state.db-wal was cut"),
    "database deleted": (lambda path: path.unlink(), "state.db was deleted"),
    "database replaced": (_replace, "state.db was replaced"),
    "database cut": (lambda path: os.truncate(path, 4096), "state.db was cut"),
    "second name": (lambda path: os.link(path, path.with_name("second.db")), "has 2 names"),
}


@pytest.mark.parametrize("what", HARM)
def test_harm_is_noticed_before_anybody_is_answered(
    served: FaultyDaemon, hasty: SessionDB, what: str
) -> None:
    harm, complaint = HARM[what]
    if what == "database cut":  # so that the file itself holds something
        served.restart()
        hasty.append_message("s", "user", "message 3")
    harm(served.database)
    waiting = hasty.append_message_nowait("s", "user", "who knows")
    assert served.await_end() == EX_IOERR
    assert not waiting.done()
    left = said(served)
    assert left.state is State.FAILED
    assert complaint in left.message
    assert complaint in served.log
    with pytest.raises(OutcomeUnknown, match="the deadline passed without an answer"):
        waiting.result()


def test_a_deleted_log_is_saved_and_the_file_counts_as_gone_back(
    served: FaultyDaemon, db: SessionDB, tmp_path: Path
) -> None:
    _log(served.database).unlink()
    waiting = db.append_message_nowait("s", "user", "who knows")
    assert served.await_end() == EX_IOERR
    (orphan,) = tmp_path.glob("state.db-wal.orphan-*")
    assert f"its log was saved as {orphan}" in said(served).message
    rescued = tmp_path / "rescued"
    rescued.mkdir()
    shutil.copy(served.database, rescued / "state.db")
    shutil.copy(orphan, _log(rescued / "state.db"))
    assert contents(rescued / "state.db")[:3] == [f"message {number}" for number in range(3)]
    served.start()
    with pytest.raises(OutcomeUnknown, match="went back"):
        waiting.result()
    assert db.get_session("s") is None
    assert "new generation" in served.log.split("its log was saved")[-1]


def test_a_replaced_database_is_not_opened_with_the_log_of_the_old_one(
    served: FaultyDaemon, db: SessionDB
) -> None:
    """``mv backup state.db`` under the daemon: the old log must not be replayed over the backup."""
    backup = served.database.with_name("backup.db")
    with (
        closing(sqlite3.connect(served.database)) as source,
        closing(sqlite3.connect(backup)) as to,
    ):
        source.backup(to)
    db.append_message("s", "user", "after the backup")
    backup.rename(served.database)
    waiting = db.append_message_nowait("s", "user", "who knows")
    assert served.await_end() == EX_IOERR
    served.launch()
    assert served.await_end() == 65
    assert "belongs to the file that was there before: move the log away" in served.log
    assert said(served).state is State.FAILED
    served.launch()
    assert served.await_end() == 65
    _log(served.database).rename(served.database.with_name("old-wal"))
    served.start()
    with pytest.raises(OutcomeUnknown, match="went back"):
        waiting.result()
    texts = [each["content"] for each in db.get_messages("s")]
    assert texts == [f"message {number}" for number in range(3)]


def test_a_reader_in_the_same_directory_is_no_alarm(served: FaultyDaemon, db: SessionDB) -> None:
    """What others may do: read, write, checkpoint, back up, vacuum, all at once with us."""
    program = """
import time
c = connect()
for turn in range(15):
    c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    c.execute("INSERT INTO messages (session_id, role, timestamp) VALUES ('s', 'u', 1)")
    if turn % 5 == 0:
        c.execute("VACUUM")
c.close()
connect().close()
"""
    with Foreign(program, served.database) as other:
        written = [db.append_message_nowait("s", "user", f"more {n}") for n in range(200)]
        assert [future.exception() for future in written] == [None] * 200
        other.finish()
    assert db.append_message("s", "user", "still here") > 0
    assert len(db.get_messages("s")) == 3 + 200 + 15 + 1
