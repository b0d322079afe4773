"""The guard against other programs, tried with other programs.

The daemon's side (``apsw``) is this process; everybody else is a process of its own.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite import file_locks
from sessiond.sqlite.guard import Guard, Held, Identity, refuse_stray_log
from sessiond.sqlite.log_users import Role
from sessiond.sqlite.refusal import OpenRefused
from tests.support.foreign import Foreign, run

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


class Daemon:
    """A guard and a write connection as the daemon has them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path.with_name(f"{path.name}-wal")
        self.shared_memory = path.with_name(f"{path.name}-shm")
        self.guard = Guard(str(path))
        self.guard.take_daemon_lock()
        self.connection = apsw.Connection(str(path))
        self.connection.set_busy_timeout(0)
        self.connection.execute("PRAGMA journal_mode=WAL").fetchall()
        self.connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        self.connection.execute("CREATE TABLE t (a)")

    def write(self, times: int = 1) -> None:
        for _ in range(times):
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("INSERT INTO t VALUES (zeroblob(5000))")
            self.connection.execute("COMMIT")

    def count(self) -> int:
        found: int = self.connection.execute("SELECT count(*) FROM t").get
        return found

    def lose_posix_locks(self) -> None:
        """What any code in the process does that opens and closes these files."""
        for path in (self.path, self.log, self.shared_memory):
            os.close(os.open(path, os.O_RDONLY))

    def close(self) -> None:
        self.connection.close()
        release(self.guard)


def release(guard: Guard) -> None:
    """What the end of the process does."""
    for descriptor in (guard._database, guard._shared_memory, guard._fallback):
        if descriptor >= 0:
            os.close(descriptor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def unguarded(path: Path) -> Iterator[Daemon]:
    daemon = Daemon(path)
    yield daemon
    daemon.close()


@pytest.fixture
def daemon(unguarded: Daemon) -> Daemon:
    unguarded.guard.protect()
    return unguarded


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


# --- the alarm ---------------------------------------------------------------------------------


def test_there_is_no_alarm_while_nothing_happens(daemon: Daemon) -> None:
    for _ in range(3):
        daemon.write(3)
        assert daemon.guard.alarm() is None
        daemon.connection.wal_checkpoint(mode=TRUNCATE)
        assert daemon.guard.alarm() is None


def _replace(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(b"")
    copy.rename(path)


_DAMAGE: dict[str, tuple[Callable[[Daemon], None], str]] = {
    "log deleted": (lambda it: it.log.unlink(), "state.db-wal was deleted"),
    "log replaced": (lambda it: _replace(it.log), "state.db-wal was replaced"),
    "log emptied": (lambda it: os.truncate(it.log, 0), "state.db-wal was cut"),
    "log cut": (lambda it: os.truncate(it.log, it.log.stat().st_size - 1), "-wal was cut"),
    "index deleted": (lambda it: it.shared_memory.unlink(), "state.db-shm was deleted"),
    "database deleted": (lambda it: it.path.unlink(), "state.db was deleted"),
    "database replaced": (lambda it: _replace(it.path), "state.db was replaced"),
    "database linked": (
        lambda it: os.link(it.path, it.path.with_name("second")),
        "state.db has 2 names",
    ),
}


@pytest.mark.parametrize("damage", _DAMAGE)
def test_the_alarm_says_what_happened_to_the_files(daemon: Daemon, damage: str) -> None:
    harm, complaint = _DAMAGE[damage]
    daemon.write(3)
    assert daemon.guard.alarm() is None
    harm(daemon)
    alarm = daemon.guard.alarm()
    assert alarm is not None
    assert complaint in alarm


def test_a_cut_database_raises_the_alarm(daemon: Daemon) -> None:
    daemon.write(30)
    daemon.connection.wal_checkpoint(mode=TRUNCATE)
    size = daemon.path.stat().st_size
    os.truncate(daemon.path, size - 4096)
    assert daemon.guard.alarm() == (
        f"{daemon.path} was cut while the daemon had it open:"
        f" {size - 4096} bytes are left of {size}"
    )


def test_a_database_that_is_cut_while_the_log_holds_newer_pages_raises_the_alarm(
    daemon: Daemon,
) -> None:
    daemon.write(30)
    daemon.connection.wal_checkpoint(mode=TRUNCATE)
    daemon.write()
    assert daemon.guard.alarm() is None
    os.truncate(daemon.path, 4096)
    assert "state.db was cut" in (daemon.guard.alarm() or "")


def test_cut_shared_memory_raises_the_alarm(daemon: Daemon) -> None:
    daemon.write()
    size = daemon.shared_memory.stat().st_size
    os.truncate(daemon.shared_memory, 3)
    try:
        assert "state.db-shm was cut" in (daemon.guard.alarm() or "")
    finally:
        os.truncate(daemon.shared_memory, size)  # SQLite has it mapped: touching it would kill us


_OTHERS_MAY = {
    "empty the log": "PRAGMA wal_checkpoint(TRUNCATE)",
    "restart the log": "PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES (1)",
    "make the file smaller": "DELETE FROM t; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)",
    "make it smaller and larger": (
        "DELETE FROM t; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);"
        "INSERT INTO t VALUES (zeroblob(50000))"
    ),
}


@pytest.mark.parametrize("what", _OTHERS_MAY)
def test_what_other_programs_may_do_raises_no_alarm(daemon: Daemon, what: str) -> None:
    daemon.write(30)
    daemon.connection.wal_checkpoint(mode=PASSIVE)
    daemon.write()
    run(f"connect().executescript({_OTHERS_MAY[what]!r})", daemon.path)
    assert daemon.guard.alarm() is None
    daemon.write()
    assert daemon.guard.alarm() is None


def test_a_busy_program_raises_no_alarm(daemon: Daemon) -> None:
    program = """
connection = connect()
pause()
for turn in range(60):
    connection.execute("INSERT INTO t VALUES (zeroblob(20000))")
    if turn % 2:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if turn % 10 == 0:
        connection.execute("DELETE FROM t")
        connection.execute("VACUUM")
pause()
"""
    with Foreign(program, daemon.path) as foreign:
        foreign.wait_for_pause()
        before = daemon.guard.log_index()
        foreign.go_on()
        alarms = {daemon.guard.alarm() for _ in range(3000)}
        foreign.wait_for_pause()
        assert daemon.guard.log_index() != before
    assert alarms == {None}


def test_files_that_changed_before_they_were_guarded_are_not_served(unguarded: Daemon) -> None:
    _replace(unguarded.log)
    with pytest.raises(Exception, match="-wal is not the file that SQLite has open"):
        unguarded.guard.protect()
    assert not unguarded.guard.guarded


def test_shared_memory_that_is_gone_is_not_guarded(unguarded: Daemon) -> None:
    unguarded.shared_memory.unlink()
    with pytest.raises(Exception, match="-shm was deleted"):
        unguarded.guard.protect()


# --- after an alarm ----------------------------------------------------------------------------


@pytest.mark.parametrize("harm", [lambda log: log.unlink(), _replace], ids=["deleted", "replaced"])
def test_an_orphaned_log_is_saved_with_everything_in_it(
    daemon: Daemon, harm: Callable[[Path], None], tmp_path: Path
) -> None:
    daemon.connection.wal_checkpoint(mode=TRUNCATE)
    daemon.write(7)
    harm(daemon.log)
    saved = daemon.guard.save_orphaned_log("now")
    assert saved == f"{daemon.log}.orphan-now"
    assert stat.S_IMODE(os.stat(saved).st_mode) == 0o600
    (tmp_path / "rescued").mkdir()
    rescued = tmp_path / "rescued/state.db"
    program = f"""
import shutil
shutil.copy(path, {str(rescued)!r})
shutil.copy({saved!r}, {str(rescued) + "-wal"!r})
path = {str(rescued)!r}
print(connect().execute("SELECT count(*) FROM t").fetchone()[0])
"""
    assert run(program, daemon.path) == "7"
    assert daemon.count() == 7  # nothing was closed


def test_a_log_in_its_place_is_not_saved(daemon: Daemon) -> None:
    daemon.write()
    assert daemon.guard.save_orphaned_log("now") is None


def test_a_log_that_cannot_be_saved_is_no_error(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.log.unlink()
    (daemon.path.parent / "state.db-wal.orphan-now").touch()
    assert daemon.guard.save_orphaned_log("now") is None
    assert "cannot save the log" in caplog.text


def test_a_log_beside_a_new_database_is_refused_until_one_of_them_moves(daemon: Daemon) -> None:
    daemon.write()
    assert daemon.guard.stray_log() == ""
    original = daemon.path.rename(daemon.path.with_name("original"))
    (daemon.path.with_name("backup")).touch()
    daemon.path.with_name("backup").rename(daemon.path)
    stray = daemon.guard.stray_log()
    assert stray == str(Identity.at(str(daemon.log)))
    with pytest.raises(OpenRefused, match="belongs to the file that was there before"):
        refuse_stray_log(str(daemon.path), stray)
    moved = daemon.log.rename(daemon.path.with_name("moved-wal"))
    refuse_stray_log(str(daemon.path), stray)
    daemon.log.touch()
    refuse_stray_log(str(daemon.path), stray)
    daemon.log.unlink()
    moved.rename(daemon.log)
    original.rename(daemon.path)
    assert daemon.guard.stray_log() == ""


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
