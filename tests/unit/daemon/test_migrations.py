"""Files of every version become current ones: nothing is lost, an index comes back."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite import opening
from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.judge import Mode, look
from sessiond.sqlite.migrations import REBUILD_NEEDED, migrate, plan
from sessiond_protocol import schema
from tests.support import old_files
from tests.support.migrating import Opener, base_part, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database lies."""
    return tmp_path / "state.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Opener]:
    """Opens write connections to it, closed at the end."""
    with Opener(path) as opener:
        yield opener


def search(connection: apsw.Connection, word: str) -> list[int]:
    """Ids of messages that the index finds."""
    found = rows(connection, "SELECT rowid FROM messages_fts(?) ORDER BY rowid", (word,))
    return [row[0] for row in found]


# --- every version -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, 7))
@pytest.mark.parametrize("wal", [True, False])
def test_every_version_becomes_complete_with_its_data(
    path: Path, opened: Opener, version: int, wal: bool
) -> None:
    old_files.make(path, version, wal=wal)
    connection = opened()
    before = old_files.contents(connection)
    steps = run(connection)
    assert steps == [*(f"v{number}" for number in range(version + 1, 7)), "complete"]
    verdict = look(connection)
    assert verdict.version == schema.SCHEMA_VERSION
    assert verdict.mode is Mode.OURS
    assert verdict.missing_columns == ()
    assert verdict.missing_indexes == ()
    assert verdict.missing_sides == ()
    after = old_files.contents(connection)
    assert base_part(after) == base_part(before)
    for table, found in before.items():
        for old, new in zip(found, after[table], strict=True):
            assert new == {**new, **old}
    assert plan(connection).steps == ()
    assert search(connection, "soil") == [2]
    assert value(connection, "SELECT index_state FROM sessiond_meta") == ""
    assert rows(connection, "PRAGMA integrity_check") == [("ok",)]
    assert rows(connection, "PRAGMA foreign_key_check") == []


@pytest.mark.parametrize("version", range(1, 7))
def test_the_columns_are_those_of_a_fresh_file(
    path: Path, opened: Opener, tmp_path: Path, version: int
) -> None:
    old_files.make(path, version)
    connection = opened()
    run(connection)
    fresh = apsw.Connection(str(tmp_path / "fresh.db"))
    for statement in schema.statements():
        fresh.execute(statement)
    for table in ("sessions", "messages", *schema.SIDE_TABLES):
        ours, theirs = (
            {row[1:] for row in rows(one, f"PRAGMA table_info('{table}')")}
            for one in (connection, fresh)
        )
        assert ours == theirs
    fresh.close()


def test_an_added_counter_starts_at_zero(path: Path, opened: Opener) -> None:
    old_files.make(path, 4)
    connection = opened()
    run(connection)
    assert value(connection, "SELECT sum(reasoning_tokens = 0) FROM sessions") == 3


def test_an_existing_column_is_no_error(path: Path, opened: Opener) -> None:
    old_files.make(path, 1)
    connection = opened()
    connection.execute("ALTER TABLE sessions ADD COLUMN Title TEXT")
    connection.execute("ALTER TABLE messages ADD COLUMN reasoning TEXT")
    connection.execute("UPDATE messages SET reasoning = 'kept' WHERE id = 1")
    run(connection)
    assert look(connection).missing_columns == ()
    assert value(connection, "SELECT reasoning FROM messages WHERE id = 1") == "kept"


def test_a_column_that_its_version_promises_is_added(path: Path, opened: Opener) -> None:
    old_files.make(path, 5)
    connection = opened()
    connection.execute("UPDATE schema_version SET version = 6")
    wanted = plan(connection)
    assert wanted.steps == ("complete",)
    assert wanted.backup
    migrate(connection, wanted)
    assert look(connection).missing_columns == ()


def test_repeated_titles_are_numbered_at_version_4(path: Path, opened: Opener) -> None:
    sessions = (("new", "Trip", 30.0), ("old", "Trip", 10.0), ("mid", "Trip", 20.0))
    old_files.make(path, 3, sessions=sessions, messages=())
    connection = opened()
    run(connection)
    assert dict(rows(connection, "SELECT id, title FROM sessions")) == {
        "old": "Trip",
        "mid": "Trip #2",
        "new": "Trip #3",
    }


def test_a_dropped_title_index_comes_back_over_repeated_titles(path: Path, opened: Opener) -> None:
    old_files.make(path, 6)
    connection = opened()
    connection.execute("DROP INDEX idx_sessions_title_unique")
    connection.execute("UPDATE sessions SET title = 'Same'")
    run(connection)
    assert look(connection).missing_indexes == ()
    assert [title for (title,) in rows(connection, "SELECT title FROM sessions")] == [
        "Same",
        "Same #2",
        "Same #3",
    ]


@pytest.mark.parametrize("index", list(schema.INDEXES))
def test_a_missing_index_is_made(path: Path, opened: Opener, index: str) -> None:
    old_files.make(path, 6)
    connection = opened()
    connection.execute(f"DROP INDEX {index}")
    run(connection)
    assert look(connection).missing_indexes == ()


@pytest.mark.parametrize("lost", ["messages", "sessions", "schema_version"])
def test_a_file_whose_making_was_interrupted_is_completed(
    path: Path, opened: Opener, lost: str
) -> None:
    old_files.make(path, 3, sessions=(), messages=(), fts=False)
    connection = opened()
    connection.execute(f"DROP TABLE {lost}")
    assert run(connection)[0] == "tables"
    verdict = look(connection)
    assert (verdict.version, verdict.missing_tables, verdict.missing_columns) == (6, (), ())


def test_a_file_without_a_version_counts_as_the_oldest(path: Path, opened: Opener) -> None:
    old_files.make(path, 2)
    connection = opened()
    connection.execute("DELETE FROM schema_version")
    before = old_files.contents(connection)
    assert run(connection) == ["tables", "v2", "v3", "v4", "v5", "v6", "complete"]
    assert base_part(old_files.contents(connection)) == base_part(before)
    assert rows(connection, "SELECT version FROM schema_version") == [(6,)]


# --- fresh files -------------------------------------------------------------------------------


def test_an_empty_file_becomes_a_current_one_in_one_step(opened: Opener) -> None:
    connection = opened()
    wanted = plan(connection)
    assert wanted.steps == ("create",)
    assert not wanted.backup
    migrate(connection, wanted)
    assert look(connection).mode is Mode.OURS
    assert plan(connection).steps == ()
    assert len(value(connection, "SELECT generation FROM sessiond_meta")) == 16


def test_every_file_has_a_generation_of_its_own(opened: Opener, tmp_path: Path) -> None:
    connection = opened()
    other = opening.open_database(tmp_path / "other.db")
    found = set()
    for one in (connection, other):
        run(one)
        found.add(value(one, "SELECT generation FROM sessiond_meta"))
    other.close()
    assert len(found) == 2


def test_a_file_that_another_program_made_meanwhile_is_not_made_again(
    path: Path, opened: Opener
) -> None:
    connection = opened()
    wanted = plan(connection)
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE notes (text)")
    migrate(connection, wanted)
    assert look(connection).tables == {"notes"}
    other.close()


# --- the search index --------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, 7))
def test_a_file_without_index_gets_it_back_to_be_rebuilt(
    path: Path, opened: Opener, version: int
) -> None:
    old_files.make(path, version, fts=False)
    connection = opened()
    run(connection)
    verdict = look(connection)
    assert verdict.mode is Mode.OURS
    assert value(connection, "SELECT index_state FROM sessiond_meta") == REBUILD_NEEDED
    connection.execute("INSERT INTO messages_fts (messages_fts) VALUES ('rebuild')")
    assert search(connection, "soil") == [2]


def test_an_empty_file_without_index_needs_no_rebuild(path: Path, opened: Opener) -> None:
    old_files.make(path, 6, messages=(), fts=False)
    connection = opened()
    run(connection)
    assert look(connection).mode is Mode.OURS
    assert value(connection, "SELECT index_state FROM sessiond_meta") == ""


@pytest.mark.parametrize("name", list(schema.FTS_TRIGGERS))
def test_a_missing_trigger_comes_back_and_the_index_is_rebuilt(
    path: Path, opened: Opener, name: str
) -> None:
    old_files.make(path, 6)
    connection = opened()
    run(connection)
    connection.execute(f"DROP TRIGGER {name}")
    assert run(connection) == ["complete"]
    assert look(connection).mode is Mode.OURS
    assert value(connection, "SELECT index_state FROM sessiond_meta") == REBUILD_NEEDED


@pytest.mark.parametrize("index", ["messages_fts", "sessiond_cjk_fts"])
def test_what_a_lost_index_left_behind_does_not_block_a_new_one(
    path: Path, opened: Opener, index: str
) -> None:
    old_files.make(path, 6, fts=False)
    connection = opened()
    for suffix in ("data", "idx", "docsize", "config"):
        connection.execute(f"CREATE TABLE {index}_{suffix} (a)")
    run(connection)
    assert look(connection).mode is Mode.OURS


def test_the_triggers_work_for_a_program_that_knows_only_them(path: Path, opened: Opener) -> None:
    old_files.make(path, 1)
    run(opened())
    other = apsw.Connection(str(path))
    other.execute(
        "INSERT INTO messages (session_id, role, content, timestamp)"
        " VALUES ('root', 'user', 'zebra', 1)"
    )
    assert search(other, "zebra") == [6]
    other.execute("DELETE FROM messages WHERE content = 'zebra'")
    assert search(other, "zebra") == []
    other.execute("INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)")
    other.close()


def test_a_lost_pair_index_is_filled_anew_from_the_first_message(
    path: Path, opened: Opener
) -> None:
    connection = opened()
    run(connection)
    for lost in ("sessiond_cjk", "sessiond_cjk_fts"):
        connection.execute("INSERT INTO sessiond_cjk VALUES (1, '请安 安装 装')")
        connection.execute("INSERT INTO sessiond_cjk_fts (sessiond_cjk_fts) VALUES ('rebuild')")
        connection.execute("UPDATE sessiond_meta SET cjk_cursor = 9")
        connection.execute(f"DROP TABLE {lost}")
        run(connection)
        assert value(connection, "SELECT cjk_cursor FROM sessiond_meta") == 0
        assert value(connection, "SELECT count(*) FROM sessiond_cjk") == 0
        assert rows(connection, "SELECT rowid FROM sessiond_cjk_fts('安装')") == []
