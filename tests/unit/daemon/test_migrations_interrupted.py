"""A step that fails, waits or dies: the file is of one version, and the next run goes on."""

import itertools
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from sessiond.sqlite import opening
from sessiond.sqlite.ask import value
from sessiond.sqlite.judge import Mode, look
from sessiond.sqlite.migrations import COLUMNS_ADDED, REBUILD_NEEDED, migrate, plan
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond_protocol import schema
from tests.support import old_files
from tests.support.migrating import Hook, Opener, base_part, killed_at, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database lies."""
    return tmp_path / "state.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Opener]:
    """Opens write connections to it, closed at the end."""
    with Opener(path) as opener:
        yield opener


# --- errors and progress -----------------------------------------------------------------------


class Broken(Exception):
    """Raised by a hook."""


def test_an_error_at_any_point_leaves_its_step_undone(path: Path, opened: Opener) -> None:
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


def test_a_full_disk_leaves_the_step_undone(path: Path, opened: Opener) -> None:
    old_files.make(path, 5)
    connection = opened()
    pages = value(connection, "PRAGMA page_count")
    connection.execute(f"PRAGMA max_page_count={pages}").fetchall()
    with pytest.raises(OpenRefused) as caught:
        opening.bring_up_to_date(connection)
    assert caught.value.reason is Reason.NO_SPACE
    assert _version_and_sides(connection) == (6, 0)
    connection.execute("PRAGMA max_page_count=100000").fetchall()
    opening.bring_up_to_date(connection)
    assert plan(connection).steps == ()


def test_an_error_in_progress_ends_a_long_statement(path: Path, opened: Opener) -> None:
    many = (("root", "user", "a message") for _ in range(20_000))
    old_files.make(path, 6, messages=many)
    connection = opened()
    told = itertools.count()

    def stop(_step: str, _done: float) -> None:
        if next(told) == 1:
            raise Broken

    with pytest.raises(Broken):
        migrate(connection, plan(connection), stop)
    assert _version_and_sides(connection) == (6, 0)


def test_a_busy_file_is_told_so_and_tried_again(path: Path, opened: Opener) -> None:
    old_files.make(path, 5)
    connection = opened()
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(apsw.BusyError):
        migrate(connection, plan(connection))
    other.execute("COMMIT")
    other.close()
    assert run(connection) == ["v6", "complete"]


def test_progress_rises_to_one_and_names_the_steps(path: Path, opened: Opener) -> None:
    old_files.make(path, 4)
    connection = opened()
    told: list[tuple[str, float]] = []
    migrate(connection, plan(connection), lambda step, done: told.append((step, done)))
    fractions = [done for _, done in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {step for step, _ in told} == {"v5", "v6", "complete"}


def test_progress_is_told_during_a_long_statement(path: Path, opened: Opener) -> None:
    many = (("root", "user", "a message") for _ in range(40_000))
    old_files.make(path, 6, messages=many, fts=False)
    connection = opened()
    told: list[str] = []
    migrate(connection, plan(connection), lambda step, _: told.append(step))
    assert len(told) > 5


def test_the_estimate_grows_with_the_file(path: Path, opened: Opener, tmp_path: Path) -> None:
    old_files.make(path, 5, messages=(("root", "user", "x" * 9_000) for _ in range(3_000)))
    assert plan(opened()).seconds > 0.1


# --- crashes -----------------------------------------------------------------------------------


def _open_and_migrate(path: Path, hook: Hook) -> None:
    opening.bring_up_to_date(opening.open_database(path), hook=hook)


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
        if not killed_at(number, partial(_open_and_migrate, path)):
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
        if not killed_at(number, partial(_open_and_migrate, path)):
            break
        connection = opening.open_database(path)
        verdict = look(connection)
        assert verdict.is_empty or (verdict.mode is Mode.OURS and not verdict.missing_sides)
        opening.bring_up_to_date(connection)
        assert look(connection).mode is Mode.OURS
        connection.close()
    assert number > 5
