"""A backup in the database's place: the old file or the new one, whole, at every moment."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from sessiond.sqlite import preparing
from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.guard import Guard, Held, Identity
from sessiond.sqlite.opening import bring_up_to_date, open_database, start_commit
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond.sqlite.restore import restore
from sessiond.sqlite.taking import AlreadyServed, take_daemon_lock
from sessiond.state_file import Announcement
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State
from tests.support import old_files
from tests.support.migrating import Hook, killed_at

Contents = dict[str, list[dict[str, Any]]]

PRESENT = (("now", "Written since", 9_000.0),)
WORDS = (("now", "user", "what the backup does not have"),)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of the current version, as a daemon leaves it, with a channel in it."""
    path = tmp_path / "backup.db"
    old_files.make(path, 6)
    with using(path) as connection:
        bring_up_to_date(connection)
        start_commit(connection)
        connection.execute(
            "INSERT INTO sessiond_clients (client, last, floor, last_seen) VALUES (x'01', 9, 3, 1)"
        )
    return path


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with other content."""
    folder = tmp_path / "home"
    folder.mkdir()
    path = folder / "state.db"
    make_present(path)
    return path


def make_present(path: Path) -> None:
    """Write the database that is to be replaced."""
    for name in os.listdir(path.parent):
        (path.parent / name).unlink()
    old_files.make(path, 6, sessions=PRESENT, messages=WORDS)
    with using(path) as connection:
        bring_up_to_date(connection)
        start_commit(connection)


@contextmanager
def using(path: Path) -> Iterator[apsw.Connection]:
    """A write connection."""
    connection = open_database(path)
    try:
        yield connection
    finally:
        connection.close()


def contents(path: Path | str) -> Contents:
    """The base tables' rows."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        assert rows(connection, "PRAGMA quick_check") == [("ok",)]
        return old_files.contents(connection)
    finally:
        connection.close()


def beside(path: Path) -> list[str]:
    """Every file in the database's folder, SQLite's own and the state file left out."""
    own = {path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}.sessiond"}
    return sorted(set(os.listdir(path.parent)) - own)


def refusal(backup: Path, database: Path) -> OpenRefused:
    """The refusal that restoring meets; nothing may be different afterwards."""
    before = beside(database)
    with pytest.raises(OpenRefused) as caught:
        restore(str(backup), str(database), patience=0)
    assert beside(database) == before
    return caught.value


# --- what it does ------------------------------------------------------------------------------


def test_the_backup_takes_the_place_and_what_was_there_is_kept(
    backup: Path, database: Path
) -> None:
    wanted, before = contents(backup), contents(database)
    done = restore(str(backup), str(database))
    assert contents(database) == wanted
    assert done.kept is not None
    assert contents(done.kept) == before
    assert beside(database) == [Path(done.kept).name]
    assert (done.sessions, done.messages) == (3, 5)


def test_what_only_the_log_has_is_kept_too(backup: Path, database: Path) -> None:
    """A daemon that was killed leaves a log: it belongs to the database before."""

    def leave_a_log(hook: Hook) -> None:
        connection = open_database(database)
        connection.execute("UPDATE sessions SET user_id = 'in the log'")
        hook("now")

    assert killed_at(0, leave_a_log)
    assert Path(f"{database}-wal").stat().st_size > 0
    done = restore(str(backup), str(database))
    assert contents(str(done.kept))["sessions"][0]["user_id"] == "in the log"
    assert "in the log" not in str(contents(database))
    assert not os.path.lexists(f"{database}-wal")
    assert not os.path.lexists(f"{database}-shm")


def test_the_backup_is_not_touched(backup: Path, database: Path) -> None:
    before = backup.read_bytes(), os.listdir(backup.parent)
    restore(str(backup), str(database))
    assert (backup.read_bytes(), os.listdir(backup.parent)) == before


def test_a_backup_with_a_log_of_its_own_is_restored_with_it(backup: Path, database: Path) -> None:
    with using(backup) as connection:
        connection.execute("UPDATE sessions SET user_id = 'in its log'")
        restore(str(backup), str(database))
    assert contents(database)["sessions"][0]["user_id"] == "in its log"


@pytest.mark.parametrize("version", [1, 3, 5])
def test_an_older_version_is_brought_up_to_date_in_the_copy(
    tmp_path: Path, database: Path, version: int
) -> None:
    old = tmp_path / "old.db"
    old_files.make(old, version)
    before = old.read_bytes()
    done = restore(str(old), str(database))
    assert (done.from_version, done.version) == (version, 6)
    assert old.read_bytes() == before
    with using(database) as connection:
        assert bring_up_to_date(connection).steps == ()


def test_a_newer_version_stays_what_it_is(tmp_path: Path, database: Path) -> None:
    newer = tmp_path / "newer.db"
    old_files.make_newer(newer)
    done = restore(str(newer), str(database))
    assert done.version == old_files.NEWER_VERSION


def test_nobody_takes_the_new_history_for_the_old(backup: Path, database: Path) -> None:
    """Another generation, more commits than anybody has seen, and no channel to be known."""
    Announcement(str(database)).say(state=State.STOPPED, commits=4_000)
    with using(database) as connection:
        before = value(connection, "SELECT generation FROM sessiond_meta")
    with using(backup) as connection:
        original = value(connection, "SELECT generation FROM sessiond_meta")
    done = restore(str(backup), str(database))
    with using(database) as connection:
        generation, commits = rows(connection, "SELECT generation, commits FROM sessiond_meta")[0]
        assert rows(connection, "SELECT * FROM sessiond_clients") == []
        assert generation.hex() == done.generation
        assert generation not in (before, original)
        assert commits == 4_001
        assert not start_commit(connection, 4_001).renewed
    said = state_file.read(paths.state_file(str(database)))
    assert said is not None
    assert (said.state, said.generation, said.commits) == ("stopped", done.generation, 4_001)
    assert str(backup) in said.message


def test_mode_and_owner_stay(backup: Path, database: Path) -> None:
    database.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(database, 12_345, 12_346)
    before = database.stat()
    restore(str(backup), str(database))
    after = database.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )


def test_where_there_was_none_it_is_made_like_the_backup(backup: Path, tmp_path: Path) -> None:
    backup.chmod(0o440)
    database = tmp_path / "new.db"
    done = restore(str(backup), str(database))
    assert done.kept is None
    assert database.stat().st_mode & 0o777 == 0o640


def test_a_reader_of_the_old_file_is_no_hindrance(backup: Path, database: Path) -> None:
    wanted = contents(backup)
    reader = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert value(reader, "SELECT count(*) FROM messages") == 1
        restore(str(backup), str(database))
        assert value(reader, "SELECT count(*) FROM messages") == 1
    finally:
        reader.close()
    assert contents(database) == wanted


@pytest.mark.parametrize("content", [b"not a database" * 400, b"\0" * 5_000])
def test_what_cannot_be_read_is_kept_byte_by_byte(
    backup: Path, database: Path, content: bytes
) -> None:
    database.write_bytes(content)
    Path(f"{database}-wal").write_bytes(b"a log that belongs to it")
    wanted = contents(backup)
    done = restore(str(backup), str(database))
    assert contents(database) == wanted
    assert done.kept is not None
    assert Path(done.kept).read_bytes() == content
    assert Path(f"{done.kept}-wal").read_bytes() == b"a log that belongs to it"


def test_of_an_empty_database_nothing_is_kept(backup: Path, tmp_path: Path) -> None:
    database = tmp_path / "empty.db"
    database.touch(0o600)
    assert restore(str(backup), str(database)).kept is None


# --- what it refuses ---------------------------------------------------------------------------


def test_a_served_database_is_refused(backup: Path, database: Path) -> None:
    guard = Guard(str(database))
    take_daemon_lock(guard, 0)
    Announcement(str(database)).say(state=State.SERVING)
    before = contents(database)
    with pytest.raises(AlreadyServed, match=f"pid {os.getpid()}"):
        restore(str(backup), str(database))
    guard.let_go()
    assert contents(database) == before


def test_a_program_that_has_it_open_for_writing_is_named(backup: Path, database: Path) -> None:
    program = "import sys; file = open(sys.argv[1], 'r+b'); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        refused = refusal(backup, database)
        other.communicate(b"\n")
    assert refused.reason is Reason.NO_ACCESS
    assert f"pid {other.pid}" in refused.message


def test_a_write_meanwhile_is_noticed(backup: Path, database: Path) -> None:
    def write(step: str) -> None:
        if step == "restore: kept":
            with using(database) as connection:
                connection.execute("UPDATE sessions SET user_id = 'too late'")

    with pytest.raises(OpenRefused, match="was written by another program"):
        restore(str(backup), str(database), hook=write)
    assert beside(database) == []
    assert contents(database)["sessions"][0]["user_id"] == "too late"


def test_a_long_read_is_waited_for_and_then_refused(
    backup: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond.sqlite.restore._BUSY_MS", 10)
    reader = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    value(reader, "SELECT count(*) FROM messages")
    with using(database) as connection:
        connection.execute("UPDATE sessions SET user_id = 'in the log'")
        try:
            assert "is being read or written" in refusal(backup, database).message
        finally:
            reader.close()
    assert contents(database)["sessions"][0]["user_id"] == "in the log"


@pytest.mark.parametrize(
    ("statements", "reason", "named"),
    [
        (["CREATE TABLE notes (text)"], Reason.NOT_OURS, "notes"),
        (["PRAGMA application_id=252006673"], Reason.NOT_OURS, "0x0f055111"),
        (["PRAGMA user_version=1"], Reason.NOT_OURS, "holds no sessions"),
        (["CREATE TABLE sessions (sid)"], Reason.SCHEMA, "sessions.id"),
    ],
)
def test_what_no_daemon_would_open_is_no_backup(
    tmp_path: Path, database: Path, statements: list[str], reason: Reason, named: str
) -> None:
    other = tmp_path / "other.db"
    connection = apsw.Connection(str(other))
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()
    refused = refusal(other, database)
    assert refused.reason is reason
    assert named in refused.message


def test_what_is_not_sqlite_is_no_backup(tmp_path: Path, database: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("shopping list\n" * 500)
    assert refusal(other, database).reason is Reason.NOT_OURS
    assert refusal(tmp_path, database).reason is Reason.NOT_A_FILE
    assert refusal(tmp_path / "missing", database).reason is Reason.NOT_A_FILE


def test_the_database_is_no_backup_of_itself(database: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(database)
    assert "is the database itself" in refusal(link, database).message


def test_another_programs_database_is_not_replaced(backup: Path, tmp_path: Path) -> None:
    database = tmp_path / "places.sqlite"
    with closing(apsw.Connection(str(database))) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    before = database.read_bytes()
    assert refusal(backup, database).reason is Reason.NOT_OURS
    assert database.read_bytes() == before


def test_a_damaged_backup_is_refused(backup: Path, database: Path) -> None:
    with closing(apsw.Connection(str(backup))) as connection:
        root = value(connection, "SELECT rootpage FROM sqlite_schema WHERE name = 'messages'")
        size = value(connection, "PRAGMA page_size")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    content = bytearray(backup.read_bytes())
    content[(root - 1) * size : root * size] = b"\xff" * size
    backup.write_bytes(content)
    assert refusal(backup, database).reason is Reason.DAMAGED


def test_no_room_is_told_before_anything_is_written(
    backup: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    refused = refusal(backup, database)
    assert refused.reason is Reason.NO_SPACE
    assert "4096 are free" in refused.message


def test_a_failed_restore_of_a_new_database_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    with pytest.raises(OpenRefused):
        restore(str(tmp_path / "missing"), str(folder / "state.db"))
    assert os.listdir(folder) == []


def test_what_was_said_of_the_database_before_stays_after_a_refusal(
    tmp_path: Path, database: Path
) -> None:
    said = Announcement(str(database))
    said.say(state=State.STOPPED, commits=7, generation="ab", message="its log holds 9 bytes")
    refusal(tmp_path / "missing", database)
    found = state_file.read(paths.state_file(str(database)))
    assert found is not None
    assert (found.commits, found.generation, found.message) == (7, "ab", "its log holds 9 bytes")


# --- cut short ---------------------------------------------------------------------------------


def _restore(backup: Path, database: Path, hook: Hook) -> None:
    preparing._PAGES_PER_STEP = 5  # type: ignore[misc]
    restore(str(backup), str(database), hook=hook)


@pytest.mark.parametrize("version", [6, 4])
def test_killed_at_any_point_it_is_the_old_database_or_the_new(
    backup: Path, database: Path, version: int
) -> None:
    if version != 6:
        backup.unlink()
        old_files.make(backup, version)
    new, old = _titles(backup), _titles(database)
    seen = set()
    for number in itertools.count():
        make_present(database)
        if not killed_at(number, partial(_restore, backup, database)):
            break
        with using(database) as connection:  # as the next daemon does
            bring_up_to_date(connection)
            start_commit(connection)
        found = _titles(database)
        assert found in (old, new)
        seen.add(found == new)
        kept = [name for name in beside(database) if ".before-restore-2" in name]
        assert all(_titles(database.with_name(name)) == old for name in kept)
        assert kept or found == old
        done = restore(str(backup), str(database))
        assert _titles(database) == new
        assert set(beside(database)) == {*kept, Path(str(done.kept)).name}
    assert number > 15
    assert seen == {True, False}


def _titles(path: Path) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        assert rows(connection, "PRAGMA quick_check") == [("ok",)]
        return rows(connection, "SELECT id, title FROM sessions ORDER BY id")
    finally:
        connection.close()


def test_no_daemon_gets_the_new_file_before_it_is_done(backup: Path, database: Path) -> None:
    found = []

    def try_to_serve(step: str) -> None:
        if step in ("restore: ready", "restore: renamed", "restore: done"):
            guard = Guard(str(database))
            with pytest.raises(Held):
                guard.take_daemon_lock()
            found.append(Identity.at(str(database)))
            guard.let_go()

    restore(str(backup), str(database), hook=try_to_serve)
    assert len(set(found)) == 2
    guard = Guard(str(database))
    guard.take_daemon_lock()
    guard.let_go()


def test_a_database_with_a_foreign_log_beside_it_is_refused(backup: Path, database: Path) -> None:
    wal = Path(f"{database}-wal")
    wal.write_bytes(b"of another database")
    Announcement(str(database)).say(state=State.FAILED, stray_log=str(Identity.at(str(wal))))
    assert "belongs to the file that was there before" in refusal(backup, database).message
    assert wal.read_bytes() == b"of another database"
