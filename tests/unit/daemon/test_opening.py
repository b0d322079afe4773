"""Opening: what is refused and why, what is changed and in which order."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite import opening
from sessiond.sqlite.ask import value
from sessiond.sqlite.judge import Mode, look
from sessiond.sqlite.migrations import Plan
from sessiond.sqlite.opening import Upgrade, bring_up_to_date, open_database
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond_protocol import schema
from tests.support import old_files
from tests.support.migrating import fork

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database lies."""
    return tmp_path / "state.db"


@pytest.fixture
def ready(path: Path) -> Iterator[apsw.Connection]:
    """A fresh file, brought up to date."""
    connection = open_database(path)
    bring_up_to_date(connection)
    yield connection
    connection.close()


def refusal(path: Path) -> OpenRefused:
    """The refusal that opening meets."""
    with pytest.raises(OpenRefused) as caught:
        open_database(path)
    return caught.value


def made(path: Path, *statements: str) -> None:
    """Write a SQLite file by statements."""
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"x", b"not a database at all" * 100, b"\0" * 5_000])
def test_what_is_not_sqlite_is_refused_and_left(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused = refusal(path)
    assert refused.reason is Reason.NOT_OURS
    assert str(path) in refused.message
    assert path.read_bytes() == content


def test_another_programs_application_id_is_refused(path: Path) -> None:
    made(path, "PRAGMA application_id=252006673", *schema.statements())
    before = path.read_bytes()
    refused = refusal(path)
    assert refused.reason is Reason.NOT_OURS
    assert "0x0f055111" in refused.message
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["CREATE TABLE notes (text)"], "notes"),
        (["CREATE TABLE notes (text)", schema.SCHEMA_VERSION_TABLE], "notes"),
        (["CREATE VIEW sessions AS SELECT 1"], "no tables"),
        ([schema.SCHEMA_VERSION_TABLE, "INSERT INTO schema_version VALUES (3)"], "no tables"),
    ],
)  # fmt: skip
def test_a_database_of_other_tables_is_refused_and_left(
    path: Path, statements: list[str], named: str
) -> None:
    made(path, *statements)
    before = path.read_bytes()
    refused = refusal(path)
    assert refused.reason is Reason.NOT_OURS
    assert named in refused.message
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["state.db"]


def test_tables_of_our_names_with_other_columns_are_refused(path: Path) -> None:
    made(path, "CREATE TABLE sessions (sid, data)")
    assert "sessions.id" in refusal(path).message


def test_a_newer_file_without_a_column_is_refused_and_left(path: Path) -> None:
    old_files.make_newer(path)
    made(path, "ALTER TABLE messages DROP COLUMN reasoning")
    before = path.read_bytes()
    refused = refusal(path)
    assert refused.reason is Reason.SCHEMA
    assert "messages.reasoning" in refused.message
    assert path.read_bytes() == before


def test_a_refused_files_log_is_left_as_it_was(path: Path) -> None:
    """A log that a killed program left holds its commits: they are its own kind's to move."""
    child = fork()
    if child == 0:
        try:
            old_files.make_newer(path)
            connection = apsw.Connection(str(path))
            connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()
            connection.execute("ALTER TABLE messages DROP COLUMN reasoning")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    log = Path(f"{path}-wal")
    before = path.read_bytes(), log.read_bytes()
    assert before[1]
    assert "messages.reasoning" in refusal(path).message
    assert (path.read_bytes(), log.read_bytes()) == before


def test_a_damaged_file_is_refused(path: Path) -> None:
    old_files.make(path, 6)
    content = bytearray(path.read_bytes())
    content[100:200] = b"\xff" * 100
    path.write_bytes(content)
    assert refusal(path).reason is Reason.DAMAGED


def test_a_second_name_is_refused(path: Path) -> None:
    old_files.make(path, 6)
    Path(f"{path}.link").hardlink_to(path)
    assert refusal(path).reason is Reason.LINKED


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).reason is Reason.NOT_A_FILE


def _as_nobody(act: Callable[[], OpenRefused]) -> tuple[str, str]:
    """Reason and text of a refusal met by a user without rights, in a process of its own."""
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        try:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            refused = act()
            os.write(writing, f"{refused.reason.name}\n{refused.message}".encode())
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 (the child must not return into the test)
            os.write(writing, f"{type(error).__name__}\n{error}".encode())
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        reason, _, message = stream.read().decode().partition("\n")
    os.waitpid(child, 0)
    return reason, message


@pytest.fixture
def reachable(tmp_path: Path) -> Iterator[Path]:
    """A directory that every user can reach, and write to."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(directory.stat().st_mode | 0o755)
    tmp_path.chmod(0o777)
    yield tmp_path
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "text"),
    [
        (0o600, 0o777, "cannot be read by uid 65534"),
        (0o644, 0o777, "cannot be written by uid 65534"),
        (0o666, 0o755, "its shared memory lie in it"),
    ],
)
def test_missing_rights_are_named(
    reachable: Path, file_mode: int, directory_mode: int, text: str
) -> None:
    path = reachable / "state.db"
    old_files.make(path, 6)
    path.chmod(file_mode)
    reachable.chmod(directory_mode)
    reason, message = _as_nobody(lambda: refusal(path))
    assert reason == "NO_ACCESS"
    assert text in message
    assert str(reachable) in message


def test_a_file_that_sqlite_opens_read_only_is_refused(
    reachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path's rights may change between the look and the opening."""
    path = reachable / "state.db"
    old_files.make(path, 6)
    path.chmod(0o644)
    monkeypatch.setattr(opening, "checked_path", lambda path, **_: str(path))
    reason, message = _as_nobody(lambda: refusal(path))
    assert reason == "NO_ACCESS"
    assert "cannot be written" in message


def test_a_busy_file_is_not_refused(path: Path) -> None:
    old_files.make(path, 6, wal=False)
    other = apsw.Connection(str(path))
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(apsw.BusyError):
        open_database(path)
    other.execute("COMMIT")
    other.close()
    open_database(path).close()


# --- what is made ------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
def test_a_missing_or_empty_file_becomes_a_current_one(path: Path, exists: bool) -> None:
    if exists:
        path.write_bytes(b"")
    connection = open_database(path)
    told: list[Plan] = []
    done = bring_up_to_date(connection, told.append)
    assert told == []  # nothing is migrated
    assert done.steps == ("create",)
    assert look(connection).mode is Mode.OURS
    assert bring_up_to_date(connection, told.append).steps == ()
    connection.close()


def test_a_held_up_migration_is_announced_and_backed_up_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old_files.make(path, 4)
    told: list[Plan] = []
    steps: list[str] = []
    connection = open_database(path)
    other = apsw.Connection(str(path))
    try:
        other.execute("BEGIN IMMEDIATE")
        upgrade = Upgrade(connection, told.append, hook=steps.append)
        with caplog.at_level("INFO"):
            for _ in range(3):
                with pytest.raises(apsw.BusyError):
                    upgrade.attempt()
        other.execute("ROLLBACK")
        assert upgrade.attempt().steps == ("v5", "v6", "complete")
    finally:
        other.close()
        connection.close()
    assert [plan.steps for plan in told] == [("v5", "v6", "complete")]
    assert steps.count("backup: renamed") == 1
    assert [
        each.message.split(" is in ")[0] for each in caplog.records if "backup" in each.name
    ] == ["backup of version 4"]


def test_a_link_leads_to_the_real_file_and_its_backup(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    old_files.make(tmp_path / "real/state.db", 2)
    (tmp_path / "link.db").symlink_to(tmp_path / "real/state.db")
    connection = open_database(tmp_path / "link.db")
    bring_up_to_date(connection)
    connection.close()
    assert (tmp_path / "real/state.db.v2.bak").exists()
    assert sorted(os.listdir(tmp_path)) == ["link.db", "real"]


def test_the_backup_comes_before_the_first_change(path: Path) -> None:
    old_files.make(path, 4)
    steps: list[str] = []
    connection = open_database(path)
    bring_up_to_date(connection, hook=steps.append)
    connection.close()
    assert steps.index("backup: renamed") < steps.index("v5: begun")


def test_without_a_backup_nothing_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_files.make(path, 4)
    Path(f"{path}.v4.bak.partial").mkdir()
    connection = open_database(path)
    before = old_files.schema_rows(connection)
    with pytest.raises(OpenRefused, match="is not migrated"):
        bring_up_to_date(connection)
    assert old_files.schema_rows(connection) == before
    connection.close()


def test_an_old_current_file_gets_no_backup(path: Path) -> None:
    old_files.make(path, 6)
    connection = open_database(path)
    assert bring_up_to_date(connection).steps == ("complete",)
    connection.close()
    assert not list(path.parent.glob("*.bak"))


# --- settings ----------------------------------------------------------------------------------


def test_the_write_connections_settings(ready: apsw.Connection) -> None:
    found = {
        name: value(ready, f"PRAGMA {name}")
        for name in (
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "wal_autocheckpoint",
            "busy_timeout",
            "temp_store",
            "cache_size",
            "journal_size_limit",
            "trusted_schema",
        )
    }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "wal_autocheckpoint": 0,
        "busy_timeout": 0,
        "temp_store": 2,
        "cache_size": -16_384,
        "journal_size_limit": 0,
        "trusted_schema": 0,
    }


def test_the_log_stays_on_close_and_is_empty(path: Path) -> None:
    connection = open_database(path)
    bring_up_to_date(connection)
    connection.close()
    assert Path(f"{path}-wal").stat().st_size == 0
