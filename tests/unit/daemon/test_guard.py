"""The guard against other programs, tried with other programs.

The daemon's side (``apsw``) is this process; everybody else is a process of its own.
"""

import os
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite import file_locks
from sessiond.sqlite.guard import Guard, Held, Identity
from sessiond.sqlite.log_users import Role
from sessiond.sqlite.refusal import OpenRefused
from tests.support.foreign import Foreign, run
from tests.unit.daemon.guarded import Daemon, daemon, path, release, unguarded

__all__ = ["daemon", "path", "unguarded"]

PASSIVE = apsw.SQLITE_CHECKPOINT_PASSIVE
TRUNCATE = apsw.SQLITE_CHECKPOINT_TRUNCATE

_WRITE_AND_CLOSE = """
connection = connect()
connection.execute("INSERT INTO t VALUES ('foreign')")
print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
connection.close()
"""
_COUNT = """
connection = connect()
print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
connection.close()
"""
_READ_ONLY_COUNT = """
connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
connection.close()
"""


# --- one daemon per file -----------------------------------------------------------------------


def _another(path: Path) -> None:
    other = Guard(str(path))
    try:
        other.take_daemon_lock()
    finally:
        release(other)


def test_a_missing_file_is_made_for_its_owner_alone(path: Path) -> None:
    _another(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == 0


def test_a_second_daemon_is_held_off_and_may_try_again(path: Path) -> None:
    first, second = Guard(str(path)), Guard(str(path))
    first.take_daemon_lock()
    for _ in range(2):
        with pytest.raises(Held, match="is locked by another process"):
            second.take_daemon_lock()
    release(first)
    second.take_daemon_lock()
    release(second)


def test_a_second_daemon_is_held_off_through_a_hard_link(daemon: Daemon, tmp_path: Path) -> None:
    os.link(daemon.path, tmp_path / "other.db")
    with pytest.raises(Held):
        _another(tmp_path / "other.db")


def test_a_file_with_several_names_is_refused(path: Path, tmp_path: Path) -> None:
    path.touch()
    os.link(path, tmp_path / "other.db")
    with pytest.raises(OpenRefused, match="2 hard links"):
        _another(path)


def test_a_link_in_the_place_of_the_file_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(OSError, match="symbolic links"):
        _another(path)
    assert not (tmp_path / "elsewhere.db").exists()


def test_the_lock_goes_with_the_process(path: Path) -> None:
    program = (
        "import sys; from sessiond.sqlite.guard import Guard;"
        "Guard(sys.argv[1]).take_daemon_lock(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(Held):
            _another(path)
        other.kill()
        other.wait(10)
        _another(path)


def test_a_file_that_is_replaced_while_it_is_locked_is_not_served(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch()
    take = file_locks.take
    replacements = [tmp_path / "new1", tmp_path / "new2"]

    def replaced(*arguments: int) -> bool:
        taken = take(*arguments)
        if replacements:
            newest = replacements.pop()
            newest.touch()
            newest.rename(path)
        return taken

    monkeypatch.setattr(file_locks, "take", replaced)
    guard = Guard(str(path))
    guard.take_daemon_lock()
    assert guard.identity == Identity.at(str(path))
    release(guard)


# --- what the guard leaves possible ------------------------------------------------------------


def test_our_own_writes_reads_and_checkpoints_go_on_under_the_guard(daemon: Daemon) -> None:
    daemon.write(20)
    reader = apsw.Connection(str(daemon.path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert reader.execute("SELECT count(*) FROM t").get == 20
    finally:
        reader.close()
    frames, moved = daemon.connection.wal_checkpoint(mode=PASSIVE)
    assert frames == moved > 0
    daemon.write()
    assert daemon.connection.wal_checkpoint(mode=TRUNCATE) == (0, 0)
    assert daemon.log.stat().st_size == 0
    daemon.write()
    assert daemon.count() == 22


def test_other_programs_read_and_write_under_the_guard(daemon: Daemon) -> None:
    daemon.write(3)
    assert run(_WRITE_AND_CLOSE, daemon.path) == "4"
    assert run(_READ_ONLY_COUNT, daemon.path) == "4"
    daemon.write()
    assert daemon.count() == 5
    assert run(_COUNT, daemon.path) == "5"


def test_the_daemons_lock_is_in_nobodys_way(unguarded: Daemon) -> None:
    unguarded.write()
    assert run(_WRITE_AND_CLOSE, unguarded.path) == "2"


# --- what it prevents --------------------------------------------------------------------------


def test_without_the_guard_lost_locks_let_others_delete_the_log(unguarded: Daemon) -> None:
    unguarded.write()
    unguarded.lose_posix_locks()
    run(_WRITE_AND_CLOSE, unguarded.path)
    assert not unguarded.log.exists()


def test_under_the_guard_nobody_deletes_the_log(daemon: Daemon) -> None:
    daemon.write()
    daemon.lose_posix_locks()
    before = Identity.at(str(daemon.log))
    assert run(_WRITE_AND_CLOSE, daemon.path) == "2"
    assert Identity.at(str(daemon.log)) == before
    assert daemon.guard.alarm() is None
    daemon.write()
    assert run(_COUNT, daemon.path) == "3"


def test_under_the_guard_nobody_resets_the_shared_memory(daemon: Daemon) -> None:
    daemon.write()
    daemon.lose_posix_locks()
    size = daemon.shared_memory.stat().st_size
    with Foreign(
        "connection = connect()\nconnection.execute('SELECT 1 FROM t')\npause()", daemon.path
    ) as foreign:
        foreign.wait_for_pause()
        assert daemon.shared_memory.stat().st_size == size
        daemon.write()
        foreign.finish()


def test_under_the_guard_nobody_switches_the_journal_mode(daemon: Daemon) -> None:
    daemon.write()
    daemon.lose_posix_locks()
    program = """
connection = connect()
connection.execute("PRAGMA busy_timeout=0")
try:
    print(connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0])
except sqlite3.OperationalError as error:
    print(error)
connection.close()
"""
    assert run(program, daemon.path) == "database is locked"
    daemon.write()
    assert daemon.count() == 2


# --- waiting for others ------------------------------------------------------------------------

_HOLD = """
file = open({name}, "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, {size}, {first})
pause()
"""


@pytest.mark.parametrize(
    ("name", "first", "size"), [("path", 0x40000002, 510), ("path + '-shm'", 128, 1)]
)
def test_a_program_that_has_the_file_for_itself_is_waited_for_and_named(
    unguarded: Daemon, name: str, first: int, size: int
) -> None:
    unguarded.lose_posix_locks()
    with Foreign(_HOLD.format(name=name, first=first, size=size), unguarded.path) as foreign:
        foreign.wait_for_pause()
        for _ in range(2):
            with pytest.raises(Held, match=f"pid {foreign.pid} ") as held:
                unguarded.guard.protect()
            assert held.value.pid == foreign.pid
            assert not unguarded.guard.guarded
        foreign.finish()
    unguarded.guard.protect()
    assert unguarded.guard.guarded


def test_a_program_in_exclusive_mode_is_named(path: Path) -> None:
    guard = Guard(str(path))
    guard.take_daemon_lock()
    program = """
connection = connect()
connection.execute("PRAGMA locking_mode=EXCLUSIVE")
connection.execute("CREATE TABLE t (a)")
pause()
"""
    assert guard.exclusive_holder() is None
    with Foreign(program, path) as foreign:
        foreign.wait_for_pause()
        assert guard.exclusive_holder() == foreign.pid
    release(guard)


# --- who uses the log --------------------------------------------------------------------------

_READ_ON = """
connection = connect()
rows = connection.execute("SELECT a FROM t")
rows.fetchone()
pause()
"""


def test_the_reader_that_holds_up_most_is_named(daemon: Daemon) -> None:
    daemon.write(3)
    index = daemon.guard.log_index()
    assert index is not None
    assert daemon.guard.oldest_reader() is None
    with Foreign(_READ_ON, daemon.path) as first:
        first.wait_for_pause()
        daemon.write(3)
        with Foreign(_READ_ON, daemon.path) as second:
            second.wait_for_pause()
            holders = daemon.guard.lock_holders()
            assert {each.pid for each in holders} == {first.pid, second.pid}
            assert daemon.guard.readers() == [first.pid, second.pid]
            oldest = daemon.guard.oldest_reader()
            assert oldest is not None
            assert (oldest.pid, oldest.role, oldest.frame) == (first.pid, Role.READER, index.frames)
            assert str(oldest).startswith(f"pid {first.pid} (python")
    assert daemon.guard.lock_holders() == []


def test_the_writer_is_named(daemon: Daemon) -> None:
    assert daemon.guard.writer() is None
    program = "connection = connect()\nconnection.execute('BEGIN IMMEDIATE')\npause()"
    with Foreign(program, daemon.path) as foreign:
        foreign.wait_for_pause()
        with pytest.raises(apsw.BusyError):
            daemon.write()
        writer = daemon.guard.writer()
        assert writer is not None
        assert (writer.pid, writer.role) == (foreign.pid, Role.WRITER)


def test_our_own_connections_are_named_as_well(daemon: Daemon) -> None:
    daemon.connection.execute("BEGIN IMMEDIATE")
    writer = daemon.guard.writer()
    assert writer is not None
    assert writer.pid == os.getpid()
    daemon.connection.execute("ROLLBACK")


# --- systems without such locks ----------------------------------------------------------------


def test_without_such_locks_the_daemon_serves_unguarded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_locks, "supported", lambda: False)
    daemon = Daemon(path)
    try:
        daemon.guard.protect()
        assert not daemon.guard.guarded
        assert daemon.guard.lock_holders() == []
        assert daemon.guard.exclusive_holder() is None
        with pytest.raises(Held):
            _another(path)
        daemon.write()
        assert daemon.guard.alarm() is None
        daemon.log.unlink()
        assert "state.db-wal was deleted" in (daemon.guard.alarm() or "")
    finally:
        daemon.close()
