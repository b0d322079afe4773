"""The guard's alarm: what has happened to the files, and what is saved then.

The daemon's side (``apsw``) is this process; everybody else is a process of its own.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite.guard import Identity, refuse_stray_log
from sessiond.sqlite.refusal import OpenRefused
from tests.support.foreign import Foreign, run
from tests.unit.daemon.guarded import Daemon, daemon, path, unguarded

__all__ = ["daemon", "path", "unguarded"]

PASSIVE = apsw.SQLITE_CHECKPOINT_PASSIVE
TRUNCATE = apsw.SQLITE_CHECKPOINT_TRUNCATE


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
