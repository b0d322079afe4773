"""The copy beside the file: complete under its name or not there, and never overwritten."""

import itertools
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from sessiond.sqlite import backup, files
from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.backup import backup_before_migration, copy_to
from sessiond.sqlite.refusal import OpenRefused, Reason
from tests.support import old_files
from tests.support.migrating import Hook, killed_at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A version 5 file with data."""
    old_files.make(tmp_path / "state.db", 5)
    return tmp_path / "state.db"


@pytest.fixture
def connection(path: Path) -> Iterator[apsw.Connection]:
    """A connection to it."""
    connection = apsw.Connection(str(path))
    yield connection
    connection.close()


def contents(path: Path | str) -> dict[str, list[dict[str, object]]]:
    """What a finished copy holds; it must be a single file that needs no other."""
    copy = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert value(copy, "PRAGMA journal_mode") == "delete"
        assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
        return old_files.contents(copy)
    finally:
        copy.close()


def beside(path: Path) -> set[str]:
    """Names of the files beside the database that are not its own."""
    return {name for name in os.listdir(path.parent) if not name.startswith(f"{path.name}-")} - {
        path.name
    }


def test_the_backup_is_the_file_as_it_is_log_included(
    path: Path, connection: apsw.Connection
) -> None:
    connection.execute("UPDATE sessions SET title = 'still in the log' WHERE id = 'root'")
    final = backup_before_migration(connection, str(path), 5)
    assert final == f"{path}.v5.bak"
    assert contents(final) == old_files.contents(connection)
    assert beside(path) == {"state.db.v5.bak"}
    assert not connection.in_transaction


@pytest.mark.parametrize("page_size", [512, 65_536])
def test_any_page_size_and_journal_mode_is_copied(tmp_path: Path, page_size: int) -> None:
    connection = apsw.Connection(str(tmp_path / "odd.db"))
    for statement in (
        f"PRAGMA page_size={page_size}",
        "PRAGMA auto_vacuum=INCREMENTAL",
        "CREATE TABLE schema_version (version)",
        "CREATE TABLE sessions (id TEXT PRIMARY KEY)",
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, content)",
        "INSERT INTO messages (content) VALUES (zeroblob(100000)), ('x')",
    ):
        connection.execute(statement).fetchall()
    final = backup_before_migration(connection, str(tmp_path / "odd.db"), 1)
    assert contents(final) == old_files.contents(connection)
    connection.close()


def test_it_has_the_mode_of_the_file(path: Path, connection: apsw.Connection) -> None:
    path.chmod(0o640)
    final = backup_before_migration(connection, str(path), 5)
    assert os.stat(final).st_mode & 0o777 == 0o640


def test_a_complete_one_is_kept(path: Path, connection: apsw.Connection) -> None:
    final = backup_before_migration(connection, str(path), 5)
    before = Path(final).read_bytes()
    connection.execute("DELETE FROM messages")
    assert backup_before_migration(connection, str(path), 5) == final
    assert Path(final).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a database", None])
def test_an_incomplete_one_is_replaced_but_not_destroyed(
    path: Path, connection: apsw.Connection, content: bytes | None
) -> None:
    final = Path(f"{path}.v5.bak")
    if content is None:
        content = path.read_bytes()[: 3 * 4096]
    final.write_bytes(content)
    Path(f"{final}.incomplete-1").write_bytes(b"an earlier one")
    backup_before_migration(connection, str(path), 5)
    assert contents(final) == old_files.contents(connection)
    assert Path(f"{final}.incomplete-2").read_bytes() == content
    assert Path(f"{final}.incomplete-1").read_bytes() == b"an earlier one"


def test_what_a_killed_attempt_left_is_removed(path: Path, connection: apsw.Connection) -> None:
    Path(f"{path}.v5.bak.partial").write_bytes(b"half")
    Path(f"{path}.v5.bak.partial-journal").write_bytes(b"half")
    backup_before_migration(connection, str(path), 5)
    assert beside(path) == {"state.db.v5.bak"}


def test_a_link_in_the_way_is_not_followed(
    path: Path, connection: apsw.Connection, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    Path(f"{path}.v5.bak.partial").symlink_to(victim)
    backup_before_migration(connection, str(path), 5)
    assert victim.read_bytes() == b"untouched"


def test_no_room_is_told_before_anything_is_written(
    path: Path, connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    with pytest.raises(OpenRefused) as caught:
        backup_before_migration(connection, str(path), 5)
    assert caught.value.reason is Reason.NO_SPACE
    assert "4096 are free" in caught.value.message
    assert beside(path) == set()


def test_a_failure_on_the_way_leaves_nothing(
    path: Path, connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: str) -> None:
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OpenRefused) as caught:
        backup_before_migration(connection, str(path), 5)
    assert caught.value.reason is Reason.NO_SPACE
    assert beside(path) == set()
    assert not connection.in_transaction


def test_a_copy_that_lacks_rows_is_refused(
    path: Path, connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([{"messages": 5}, {"messages": 4}])
    monkeypatch.setattr(backup, "_counts", lambda _: next(counts))
    with pytest.raises(OpenRefused, match="nothing was migrated"):
        backup_before_migration(connection, str(path), 5)
    assert beside(path) == set()


def test_a_copy_that_is_damaged_where_the_source_is_not_is_refused(
    path: Path, connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = iter([["a page is wrong"], []])
    monkeypatch.setattr(backup, "_problems", lambda _: next(problems))
    with pytest.raises(OpenRefused, match="a page is wrong"):
        backup_before_migration(connection, str(path), 5)


def damage(connection: apsw.Connection) -> None:
    """Make the check of a sound table find something: NULLs where it forbids them."""
    connection.execute("PRAGMA writable_schema=ON").fetchall()
    connection.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, 'user_id TEXT', 'user_id TEXT NOT NULL')"
        " WHERE name = 'sessions'"
    )
    connection.execute("PRAGMA writable_schema=RESET").fetchall()


def test_damage_that_was_there_before_does_not_stop_the_backup(
    path: Path, connection: apsw.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    damage(connection)
    for _ in range(2):
        backup_before_migration(connection, str(path), 5)
    assert beside(path) == {"state.db.v5.bak"}
    assert "NULL value in sessions.user_id" in caplog.text


def test_an_existing_backup_with_damage_of_its_own_is_set_aside(
    path: Path, connection: apsw.Connection
) -> None:
    final = backup_before_migration(connection, str(path), 5)
    copy = apsw.Connection(final)
    damage(copy)
    copy.close()
    backup_before_migration(connection, str(path), 5)
    assert beside(path) == {"state.db.v5.bak", "state.db.v5.bak.incomplete-1"}
    assert contents(final) == old_files.contents(connection)


def test_rows_written_by_another_program_meanwhile_do_not_disturb(
    path: Path, connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_PAGES_PER_STEP", 4)
    other = apsw.Connection(str(path))
    slices = 0

    def write(step: str) -> None:
        nonlocal slices
        if step == "backup: copying":
            slices += 1
            other.execute(
                "INSERT INTO messages (session_id, role, timestamp) VALUES ('root', 'user', 1)"
            )

    before = old_files.contents(connection)
    final = backup_before_migration(connection, str(path), 5, hook=write)
    other.close()
    assert slices > 3
    assert contents(final) == before


def test_progress_rises_to_one(path: Path, connection: apsw.Connection) -> None:
    told: list[float] = []
    backup_before_migration(connection, str(path), 5, lambda _, done: told.append(done))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_copy_goes_on_in_slices_while_its_source_is_written(
    path: Path, connection: apsw.Connection, tmp_path: Path
) -> None:
    target = tmp_path / "copy.db"
    fractions = []
    for number, fraction in enumerate(copy_to(connection, str(target), 3)):
        fractions.append(fraction)
        connection.execute(f"UPDATE sessions SET user_id = '{number}'")
    assert len(fractions) > 3
    assert fractions[-1] == 1.0
    assert contents(target)["sessions"][0]["user_id"] == str(len(fractions) - 2)


def test_a_copy_never_overwrites(path: Path, connection: apsw.Connection, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        next(copy_to(connection, str(target), 3))
    assert target.read_bytes() == b"precious"


def test_an_abandoned_copy_leaves_its_source_usable(
    path: Path, connection: apsw.Connection, tmp_path: Path
) -> None:
    copying = copy_to(connection, str(tmp_path / "copy.db"), 1)
    next(copying)
    copying.close()  # type: ignore[attr-defined]
    connection.execute("DELETE FROM messages")


def test_killed_at_any_point_the_name_stands_for_a_complete_copy(path: Path) -> None:
    for number in itertools.count():
        final = Path(f"{path}.v5.bak")
        final.unlink(missing_ok=True)
        if not killed_at(number, partial(_back_up, path)):
            break
        connection = apsw.Connection(str(path))
        before = old_files.contents(connection)
        if final.exists():
            assert contents(final) == before
        backup_before_migration(connection, str(path), 5)
        connection.close()
        assert contents(final) == before
        assert beside(path) == {"state.db.v5.bak"}
    assert number > 4


def _back_up(path: Path, hook: Hook) -> None:
    backup._PAGES_PER_STEP = 5  # type: ignore[misc]
    backup_before_migration(apsw.Connection(str(path)), str(path), 5, hook=hook)
