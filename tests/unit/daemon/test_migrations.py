"""Files of every version become current ones: nothing lost, nothing between, nothing foreign."""

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from sessiond.sqlite import opening
from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.judge import Mode, Part, look
from sessiond.sqlite.migrations import COLUMNS_ADDED, REBUILD_NEEDED, migrate, plan
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond_protocol import schema
from tests.support import old_files

Opened = Callable[[], apsw.Connection]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database lies."""
    return tmp_path / "state.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Opened]:
    """Opens write connections to it, closed at the end."""
    connections: list[apsw.Connection] = []

    def make() -> apsw.Connection:
        connections.append(opening.open_database(path))
        return connections[-1]

    yield make
    for connection in connections:
        connection.close()


def run(connection: apsw.Connection) -> list[str]:
    """Plan and migrate; the names of the steps."""
    wanted = plan(connection)
    migrate(connection, wanted)
    return list(wanted.steps)


def search(connection: apsw.Connection, word: str) -> list[int]:
    """Ids of messages that the index finds."""
    found = rows(connection, "SELECT rowid FROM messages_fts(?) ORDER BY rowid", (word,))
    return [row[0] for row in found]


def base_part(contents: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The rows cut down to the columns of version 1, which every version has."""
    added = {name.split(".")[1] for names in COLUMNS_ADDED.values() for name in names}
    return {
        table: [{name: row[name] for name in row if name not in added} for row in found]
        for table, found in contents.items()
    }


# --- every version -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, 7))
@pytest.mark.parametrize("wal", [True, False])
def test_every_version_becomes_complete_with_its_data(
    path: Path, opened: Opened, version: int, wal: bool
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
    path: Path, opened: Opened, tmp_path: Path, version: int
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


def test_an_added_counter_starts_at_zero(path: Path, opened: Opened) -> None:
    old_files.make(path, 4)
    connection = opened()
    run(connection)
    assert value(connection, "SELECT sum(reasoning_tokens = 0) FROM sessions") == 3


def test_an_existing_column_is_no_error(path: Path, opened: Opened) -> None:
    old_files.make(path, 1)
    connection = opened()
    connection.execute("ALTER TABLE sessions ADD COLUMN Title TEXT")
    connection.execute("ALTER TABLE messages ADD COLUMN reasoning TEXT")
    connection.execute("UPDATE messages SET reasoning = 'kept' WHERE id = 1")
    run(connection)
    assert look(connection).missing_columns == ()
    assert value(connection, "SELECT reasoning FROM messages WHERE id = 1") == "kept"


def test_a_column_that_its_version_promises_is_added(path: Path, opened: Opened) -> None:
    old_files.make(path, 5)
    connection = opened()
    connection.execute("UPDATE schema_version SET version = 6")
    wanted = plan(connection)
    assert wanted.steps == ("complete",)
    assert wanted.backup
    migrate(connection, wanted)
    assert look(connection).missing_columns == ()


def test_repeated_titles_are_numbered_at_version_4(path: Path, opened: Opened) -> None:
    sessions = (("new", "Trip", 30.0), ("old", "Trip", 10.0), ("mid", "Trip", 20.0))
    old_files.make(path, 3, sessions=sessions, messages=())
    connection = opened()
    run(connection)
    assert dict(rows(connection, "SELECT id, title FROM sessions")) == {
        "old": "Trip",
        "mid": "Trip #2",
        "new": "Trip #3",
    }


def test_a_dropped_title_index_comes_back_over_repeated_titles(path: Path, opened: Opened) -> None:
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
def test_a_missing_index_is_made(path: Path, opened: Opened, index: str) -> None:
    old_files.make(path, 6)
    connection = opened()
    connection.execute(f"DROP INDEX {index}")
    run(connection)
    assert look(connection).missing_indexes == ()


@pytest.mark.parametrize("lost", ["messages", "sessions", "schema_version"])
def test_a_file_whose_making_was_interrupted_is_completed(
    path: Path, opened: Opened, lost: str
) -> None:
    old_files.make(path, 3, sessions=(), messages=(), fts=False)
    connection = opened()
    connection.execute(f"DROP TABLE {lost}")
    assert run(connection)[0] == "tables"
    verdict = look(connection)
    assert (verdict.version, verdict.missing_tables, verdict.missing_columns) == (6, (), ())


def test_a_file_without_a_version_counts_as_the_oldest(path: Path, opened: Opened) -> None:
    old_files.make(path, 2)
    connection = opened()
    connection.execute("DELETE FROM schema_version")
    before = old_files.contents(connection)
    assert run(connection) == ["tables", "v2", "v3", "v4", "v5", "v6", "complete"]
    assert base_part(old_files.contents(connection)) == base_part(before)
    assert rows(connection, "SELECT version FROM schema_version") == [(6,)]


# --- fresh files -------------------------------------------------------------------------------


def test_an_empty_file_becomes_a_current_one_in_one_step(opened: Opened) -> None:
    connection = opened()
    wanted = plan(connection)
    assert wanted.steps == ("create",)
    assert not wanted.backup
    migrate(connection, wanted)
    assert look(connection).mode is Mode.OURS
    assert plan(connection).steps == ()
    assert len(value(connection, "SELECT generation FROM sessiond_meta")) == 16


def test_every_file_has_a_generation_of_its_own(opened: Opened, tmp_path: Path) -> None:
    connection = opened()
    other = opening.open_database(tmp_path / "other.db")
    found = set()
    for one in (connection, other):
        run(one)
        found.add(value(one, "SELECT generation FROM sessiond_meta"))
    other.close()
    assert len(found) == 2


def test_a_file_that_another_program_made_meanwhile_is_not_made_again(
    path: Path, opened: Opened
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
    path: Path, opened: Opened, version: int
) -> None:
    old_files.make(path, version, fts=False)
    connection = opened()
    run(connection)
    verdict = look(connection)
    assert verdict.mode is Mode.OURS
    assert value(connection, "SELECT index_state FROM sessiond_meta") == REBUILD_NEEDED
    connection.execute("INSERT INTO messages_fts (messages_fts) VALUES ('rebuild')")
    assert search(connection, "soil") == [2]


def test_an_empty_file_without_index_needs_no_rebuild(path: Path, opened: Opened) -> None:
    old_files.make(path, 6, messages=(), fts=False)
    connection = opened()
    run(connection)
    assert look(connection).mode is Mode.OURS
    assert value(connection, "SELECT index_state FROM sessiond_meta") == ""


@pytest.mark.parametrize("name", list(schema.FTS_TRIGGERS))
def test_a_missing_trigger_comes_back_and_the_index_is_rebuilt(
    path: Path, opened: Opened, name: str
) -> None:
    old_files.make(path, 6)
    connection = opened()
    run(connection)
    connection.execute(f"DROP TRIGGER {name}")
    assert run(connection) == ["complete"]
    assert look(connection).mode is Mode.OURS
    assert value(connection, "SELECT index_state FROM sessiond_meta") == REBUILD_NEEDED


def test_what_a_lost_index_left_behind_does_not_block_a_new_one(path: Path, opened: Opened) -> None:
    old_files.make(path, 6, fts=False)
    connection = opened()
    for suffix in ("data", "idx", "docsize", "config"):
        connection.execute(f"CREATE TABLE messages_fts_{suffix} (a)")
    run(connection)
    assert look(connection).mode is Mode.OURS


def test_the_triggers_work_for_a_program_that_knows_only_them(path: Path, opened: Opened) -> None:
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
    path: Path, opened: Opened
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


# --- files of other programs -------------------------------------------------------------------


def test_a_newer_file_gets_only_what_is_ours(path: Path, opened: Opened) -> None:
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


def test_a_newer_file_keeps_what_its_program_left_out(path: Path, opened: Opened) -> None:
    old_files.make_newer(path)
    connection = opened()
    connection.execute("DROP INDEX idx_sessions_title_unique")
    connection.execute("DROP TRIGGER messages_fts_update")
    run(connection)
    verdict = look(connection)
    assert verdict.missing_indexes == ("idx_sessions_title_unique",)
    assert verdict.missing_triggers == ("messages_fts_update",)


@pytest.mark.parametrize(
    ("table", "column"), [("sessions", "title"), ("messages", "reasoning"), ("messages", "role")]
)
def test_a_newer_file_that_lacks_a_column_is_refused_by_name(
    path: Path, opened: Opened, table: str, column: str
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


def test_an_old_file_that_lacks_what_no_step_adds_is_refused(path: Path, opened: Opened) -> None:
    old_files.make(path, 3)
    connection = opened()
    connection.execute("ALTER TABLE messages RENAME tool_name TO tool")
    with pytest.raises(OpenRefused, match=r"messages\.tool_name"):
        plan(connection)


def test_a_newer_file_without_a_table_is_refused(path: Path, opened: Opened) -> None:
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
    path: Path, opened: Opened, statement: str, text: str
) -> None:
    old_files.make(path, 6)
    connection = opened()
    connection.execute(statement)
    with pytest.raises(OpenRefused, match=text):
        plan(connection)


def test_foreign_triggers_and_indexes_stay(path: Path, opened: Opened) -> None:
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
    path: Path, opened: Opened
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
    path: Path, opened: Opened
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


# --- errors and progress -----------------------------------------------------------------------


class Broken(Exception):  # noqa: N818
    """Raised by a hook."""


def test_an_error_at_any_point_leaves_its_step_undone(path: Path, opened: Opened) -> None:
    for number in itertools.count():
        path.unlink(missing_ok=True)
        old_files.make(path, 1)
        connection = opened()
        last = _fail_at(connection, number)
        if last is None:
            break
        assert not connection.in_transaction
        version, sides = _version_and_sides(connection)
        step, _, point = last.partition(": ")
        done = point == "committed"
        if step == "complete":
            assert (version, sides > 0) == (6, done)
        else:
            target = int(step.removeprefix("v"))
            assert (version, sides) == (target if done else target - 1, 0)
            added = set(COLUMNS_ADDED[target])
            assert added & set(look(connection).missing_columns) == (set() if done else added)
        connection.close()
    assert number > 20


def _version_and_sides(connection: apsw.Connection) -> tuple[int | None, int]:
    verdict = look(connection)
    return verdict.version, sum(name.startswith("sessiond_") for name in verdict.tables)


def _fail_at(connection: apsw.Connection, number: int) -> str | None:
    """Migrate and fail at the hook of that number; the hook's name, None if it was not reached."""
    seen: list[str] = []

    def hook(name: str) -> None:
        seen.append(name)
        if len(seen) > number:
            raise Broken

    try:
        migrate(connection, plan(connection), hook=hook)
    except Broken:
        return seen[-1]
    return None


def test_a_busy_file_is_told_so_and_tried_again(path: Path, opened: Opened) -> None:
    old_files.make(path, 5)
    connection = opened()
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(apsw.BusyError):
        migrate(connection, plan(connection))
    other.execute("COMMIT")
    other.close()
    assert run(connection) == ["v6", "complete"]


def test_progress_rises_to_one_and_names_the_steps(path: Path, opened: Opened) -> None:
    old_files.make(path, 4)
    connection = opened()
    told: list[tuple[str, float]] = []
    migrate(connection, plan(connection), lambda step, done: told.append((step, done)))
    fractions = [done for _, done in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {step for step, _ in told} == {"v5", "v6", "complete"}


def test_progress_is_told_during_a_long_statement(path: Path, opened: Opened) -> None:
    many = (("root", "user", "a message") for _ in range(40_000))
    old_files.make(path, 6, messages=many, fts=False)
    connection = opened()
    told: list[str] = []
    migrate(connection, plan(connection), lambda step, _: told.append(step))
    assert len(told) > 5


def test_the_estimate_grows_with_the_file(path: Path, opened: Opened, tmp_path: Path) -> None:
    old_files.make(path, 5, messages=(("root", "user", "x" * 9_000) for _ in range(3_000)))
    assert plan(opened()).seconds > 0.1


# --- crashes -----------------------------------------------------------------------------------


def _killed_at(path: Path, number: int) -> bool:
    """Open and migrate in a process that dies at the hook of that number; False if it lived."""
    child = os.fork()
    if child == 0:
        try:
            seen = itertools.count()

            def hook(_name: str) -> None:
                if next(seen) == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            connection = opening.open_database(path)
            opening.bring_up_to_date(connection, hook=hook)
            os._exit(0)
        except BaseException:  # noqa: BLE001 (the child must not return into the test)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


def _shape(connection: apsw.Connection) -> tuple[int | None, tuple[str, ...], tuple[str, ...]]:
    verdict = look(connection)
    return verdict.version, verdict.missing_columns, verdict.missing_indexes


@pytest.mark.parametrize("version", [1, 3, 5, 6])
@pytest.mark.parametrize("fts", [True, False])
def test_killed_at_any_point_the_file_is_of_one_version_and_goes_on(
    tmp_path: Path, version: int, fts: bool
) -> None:
    sessions = (*old_files.SESSIONS, ("again", "Planning" if version < 4 else "Other", 4_000.0))
    template = tmp_path / "template.db"
    old_files.make(template, version, sessions=sessions, fts=fts)
    shapes = set()
    for number in range(1, 7):
        sample = tmp_path / f"shape{number}.db"
        old_files.make(sample, number)
        connection = apsw.Connection(str(sample))
        shapes.add(_shape(connection))
        connection.close()
    connection = apsw.Connection(str(template))
    before = base_part(old_files.contents(connection))
    connection.close()

    for number in itertools.count():
        directory = tmp_path / str(number)
        directory.mkdir()
        path = directory / "state.db"
        shutil.copyfile(template, path)
        if not _killed_at(path, number):
            break
        connection = opening.open_database(path)
        assert _shape(connection) in shapes
        assert len(look(connection).missing_sides) in (
            0,
            len(schema.SIDE_TABLES) + len(schema.SIDE_INDEXES),
        )
        assert base_part(old_files.contents(connection)) == before
        opening.bring_up_to_date(connection)
        assert look(connection).mode is Mode.OURS
        assert _shape(connection) == (6, (), ())
        assert base_part(old_files.contents(connection)) == before
        assert plan(connection).steps == ()
        state = value(connection, "SELECT index_state FROM sessiond_meta")
        assert state == ("" if fts else REBUILD_NEEDED)
        connection.close()
        if version < 6:
            _check_backup(path, version, before)
    assert number > 10


def _check_backup(path: Path, version: int, before: dict[str, list[dict[str, Any]]]) -> None:
    connection = apsw.Connection(f"{path}.v{version}.bak", flags=apsw.SQLITE_OPEN_READONLY)
    assert look(connection).version == version
    assert base_part(old_files.contents(connection)) == before
    connection.close()
    assert not list(path.parent.glob("*.partial*"))


def test_killed_while_a_new_file_is_made_it_is_empty_or_whole(tmp_path: Path) -> None:
    for number in itertools.count():
        path = tmp_path / f"{number}.db"
        if not _killed_at(path, number):
            break
        connection = opening.open_database(path)
        verdict = look(connection)
        assert verdict.is_empty or (verdict.mode is Mode.OURS and not verdict.missing_sides)
        opening.bring_up_to_date(connection)
        assert look(connection).mode is Mode.OURS
        connection.close()
    assert number > 5
