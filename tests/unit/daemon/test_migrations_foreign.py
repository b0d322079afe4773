"""Files of other programs: what is theirs stays, what is newer is never lowered."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.judge import Mode, Part, look
from sessiond.sqlite.migrations import REBUILD_NEEDED, migrate, plan
from sessiond.sqlite.refusal import OpenRefused, Reason
from tests.support import old_files
from tests.support.migrating import Opener, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database lies."""
    return tmp_path / "state.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Opener]:
    """Opens write connections to it, closed at the end."""
    with Opener(path) as opener:
        yield opener


def test_a_newer_file_gets_only_what_is_ours(path: Path, opened: Opener) -> None:
    old_files.make_newer(path)
    connection = opened()
    schema_before = old_files.schema_rows(connection)
    before = old_files.contents(connection)
    wanted = plan(connection)
    assert wanted.steps == ("complete",)
    assert not wanted.backup
    assert wanted.to_version == old_files.NEWER_VERSION
    migrate(connection, wanted)
    added = [row for row in old_files.schema_rows(connection) if row not in schema_before]
    assert all(str(row[1]).startswith(("sessiond_", "sqlite_autoindex_sessiond_")) for row in added)
    assert set(schema_before) <= set(old_files.schema_rows(connection))
    assert old_files.contents(connection) == before
    assert rows(connection, "SELECT version FROM schema_version") == [(old_files.NEWER_VERSION,)]
    assert value(connection, "SELECT index_state FROM sessiond_meta") == ""
    assert plan(connection).steps == ()


def test_a_newer_file_keeps_what_its_program_left_out(path: Path, opened: Opener) -> None:
    old_files.make_newer(path)
    connection = opened()
    connection.execute("DROP INDEX idx_sessions_title_unique")
    connection.execute("DROP TRIGGER messages_fts_update")
    run(connection)
    verdict = look(connection)
    assert verdict.missing_indexes == ("idx_sessions_title_unique",)
    assert verdict.missing_triggers == ("messages_fts_update",)
    assert plan(connection).steps == ()


@pytest.mark.parametrize(
    ("table", "column"), [("sessions", "title"), ("messages", "reasoning"), ("messages", "role")]
)
def test_a_newer_file_that_lacks_a_column_is_refused_by_name(
    path: Path, opened: Opener, table: str, column: str
) -> None:
    old_files.make_newer(path)
    connection = opened()
    connection.execute("DROP INDEX IF EXISTS idx_sessions_title_unique")
    connection.execute(f"ALTER TABLE {table} RENAME {column} TO other_{column}")
    before = old_files.schema_rows(connection)
    with pytest.raises(OpenRefused) as caught:
        plan(connection)
    assert caught.value.reason is Reason.SCHEMA
    assert f"schema version 11 without the column {table}.{column} " in caught.value.message
    assert old_files.schema_rows(connection) == before


def test_an_old_file_that_lacks_what_no_step_adds_is_refused(path: Path, opened: Opener) -> None:
    old_files.make(path, 3)
    connection = opened()
    connection.execute("ALTER TABLE messages RENAME tool_name TO tool")
    with pytest.raises(OpenRefused, match=r"messages\.tool_name"):
        plan(connection)


def test_a_newer_file_without_a_table_is_refused(path: Path, opened: Opener) -> None:
    old_files.make(path, 6, fts=False)
    connection = opened()
    connection.execute("DROP TABLE messages")
    connection.execute("UPDATE schema_version SET version = 7")
    with pytest.raises(OpenRefused, match="version 7 without the table messages"):
        plan(connection)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE schema_version SET version = 'ten'", "'ten' is not an integer"),
        ("ALTER TABLE schema_version RENAME version TO number", "no column version"),
    ],
)
def test_a_version_that_is_none_is_refused(
    path: Path, opened: Opener, statement: str, text: str
) -> None:
    old_files.make(path, 6)
    connection = opened()
    connection.execute(statement)
    with pytest.raises(OpenRefused, match=text):
        plan(connection)


def test_foreign_triggers_and_indexes_stay(path: Path, opened: Opener) -> None:
    old_files.make(path, 5, fts=False)
    connection = opened()
    connection.execute("CREATE TABLE audit (id INTEGER)")
    connection.execute(
        "CREATE TRIGGER audit_insert AFTER INSERT ON messages BEGIN"
        " INSERT INTO audit VALUES (new.id); END"
    )
    connection.execute("CREATE INDEX by_role ON messages(role)")
    before = old_files.schema_rows(connection)
    run(connection)
    verdict = look(connection)
    assert verdict.mode is Mode.FOREIGN
    assert verdict.foreign_triggers == ("audit_insert",)
    assert verdict.fts is Part.OURS
    assert verdict.index_is_followed
    names = {row[1] for row in old_files.schema_rows(connection)}
    assert {row[1] for row in before} <= names


def test_no_index_is_put_back_under_a_foreign_trigger_of_its_name(
    path: Path, opened: Opener
) -> None:
    old_files.make(path, 6, fts=False)
    connection = opened()
    connection.execute(
        "CREATE TRIGGER messages_fts_insert AFTER INSERT ON messages BEGIN SELECT 1; END"
    )
    run(connection)
    verdict = look(connection)
    assert verdict.fts is Part.MISSING
    assert verdict.mode is Mode.FOREIGN
    assert plan(connection).steps == ()


def test_a_migration_by_another_program_between_plan_and_step_is_respected(
    path: Path, opened: Opener
) -> None:
    old_files.make(path, 3)
    connection = opened()
    wanted = plan(connection)
    other = apsw.Connection(str(path))
    run(other)
    old_files.migrate_like_a_newer_program(other)
    other.close()
    migrate(connection, wanted)
    assert rows(connection, "SELECT version FROM schema_version") == [(old_files.NEWER_VERSION,)]
    assert look(connection).mode is Mode.FOREIGN


def test_a_newer_file_without_any_index_gets_ours(path: Path, opened: Opener) -> None:
    old_files.make(path, 6, fts=False)
    connection = opened()
    connection.execute("UPDATE schema_version SET version = 8")
    run(connection)
    assert look(connection).mode is Mode.OURS
    assert rows(connection, "SELECT version FROM schema_version") == [(8,)]


@pytest.mark.parametrize("version", [1, 6])
def test_triggers_without_their_table_get_it_back(path: Path, opened: Opener, version: int) -> None:
    old_files.make(path, version)
    connection = opened()
    connection.execute("DROP TABLE messages_fts")
    run(connection)
    assert look(connection).mode is Mode.OURS
    assert value(connection, "SELECT index_state FROM sessiond_meta") == REBUILD_NEEDED


def test_a_version_that_another_program_raised_meanwhile_never_falls(
    path: Path, opened: Opener
) -> None:
    old_files.make(path, 1)
    connection = opened()
    wanted = plan(connection)
    run(opened())
    versions = []
    migrate(
        connection,
        wanted,
        hook=lambda _: versions.append(value(connection, "SELECT version FROM schema_version")),
    )
    assert set(versions) == {6}


def test_a_file_that_became_unusable_meanwhile_is_not_touched(path: Path, opened: Opener) -> None:
    old_files.make(path, 6)
    connection = opened()
    wanted = plan(connection)
    other = apsw.Connection(str(path))
    old_files.migrate_like_a_newer_program(other)
    other.execute("ALTER TABLE messages DROP COLUMN reasoning")
    other.close()
    before = old_files.schema_rows(connection)
    with pytest.raises(OpenRefused, match=r"messages\.reasoning"):
        migrate(connection, wanted)
    assert old_files.schema_rows(connection) == before
