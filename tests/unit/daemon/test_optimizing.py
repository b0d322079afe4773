"""When the planner's statistics are brought up to date."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.sqlite import optimizing
from tests.unit.daemon.stores import Opened, foreign, opened

SQL = "PRAGMA optimize"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("a", *(f"text {number}" for number in range(50)))
        made.clock.advance(2)
        made.care()  # merges what there is to merge
        yield made


def runs(file: Opened) -> int:
    count: int = file.store.health()["care"]["optimize"]["runs"]
    return count


def test_it_runs_hourly_while_nobody_writes(file: Opened) -> None:
    file.clock.advance(optimizing.INTERVAL - 3)
    file.care()
    assert runs(file) == 0
    file.clock.advance(3)
    file.care(idle=False)
    assert runs(file) == 0
    with file.statements() as seen:
        file.care()
    assert runs(file) == 1
    assert seen.index("PRAGMA analysis_limit = 400") < seen.index(SQL)
    assert file.store.health()["care"]["optimize"]["last"] > 1e9


def test_it_does_not_run_where_nothing_was_written(file: Opened) -> None:
    file.clock.advance(optimizing.INTERVAL)
    file.care()
    commits = file.store.commits
    for _ in range(5):
        file.clock.advance(optimizing.INTERVAL)
        file.care()
    assert runs(file) == 1
    assert file.store.commits == commits


def test_many_commits_bring_it_forward(file: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizing, "MANY_COMMITS", 5)
    for number in range(6):
        file.append("a", f"more {number}")
    file.care()
    assert runs(file) == 0  # not over and over under a steady load
    file.clock.advance(300)
    file.care()
    assert runs(file) == 1


def test_the_new_tables_are_no_change_by_another_program(
    file: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    # What the connection has asked is what it finds worth analysing.
    file.rows("SELECT count(*) FROM messages WHERE session_id = 'a' AND timestamp > 0")
    file.clock.advance(optimizing.INTERVAL)
    file.care()
    with foreign(file.path) as other:
        other.execute("ANALYZE")
    file.care()
    file.append("a", "and on")
    assert file.store.health()["writable"]
    assert file.store.health()["schema"]["mode"] == "ours"
    assert len(file.found("text")) == 50


def test_a_failure_is_not_repeated_at_once(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("BEGIN IMMEDIATE")
        file.clock.advance(optimizing.INTERVAL)
        with file.statements() as seen:
            assert file.store.care(idle=True) is False
            assert file.store.care(idle=True) is False
        assert seen.count("BEGIN IMMEDIATE") == 1
        other.execute("ROLLBACK")
    file.clock.advance(optimizing.INTERVAL)
    file.care()
    assert runs(file) == 1
