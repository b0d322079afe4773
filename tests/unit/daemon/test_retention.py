"""Which sessions retention deletes, when, and how much at a time."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.sqlite.damage import IndexDamaged
from sessiond.sqlite.retention import ROUND_SECONDS, SLICE_SECONDS, SLICE_SESSIONS, Retention, Rule
from sessiond_protocol.requests.feed import Event
from sessiond_protocol.requests.session import SessionCreate, SessionEnd, SessionPruneSlice
from tests.unit.daemon.stores import Clock, Opened, appending, foreign, integrity, opened

DAY = 86_400.0
NOW = 1_700_000_000.0


class Retaining:
    """Retention on a store's file, its clocks, and what it said."""

    def __init__(self, file: Opened, **options: Any) -> None:
        self.file = file
        self.clock = Clock()
        self.wall = Clock()
        self.wall.now = NOW
        self.rule = Rule(days=30)
        self.told: list[Event] = []
        self.retention = Retention(
            file.store.access,
            self.clock,
            rule=lambda: self.rule,
            next_cursor=lambda: None,
            deleted=self.told.extend,
            wall=self.wall,
            **options,
        )

    def round(self) -> int:
        """Everything that can be done at once; the slices."""
        slices = 1
        while self.retention.step():
            slices += 1
        return slices

    @property
    def left(self) -> set[str]:
        return {name for (name,) in self.file.rows("SELECT id FROM sessions")}


def session(file: Opened, name: str, days: float, source: str = "cli", ended: bool = True) -> None:
    """A session that was started so many days ago."""
    file.results(SessionCreate(session_id=name, source=source, started_at=NOW - days * DAY))
    file.results(appending(name, f"text of {name}"))
    if ended:
        file.results(SessionEnd(session_id=name, end_reason="done", ended_at=NOW))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        yield made


def test_old_sessions_that_have_ended_go(file: Opened) -> None:
    session(file, "old", 31)
    session(file, "open", 31, ended=False)
    session(file, "young", 29)
    retaining = Retaining(file)
    retaining.round()
    assert retaining.left == {"open", "young"}
    assert retaining.told == [Event("session_deleted", "old")]
    assert file.found("old") == []
    integrity(file.connection)
    assert file.check().counts == {}


def test_without_days_nothing_goes(file: Opened) -> None:
    session(file, "old", 10_000)
    retaining = Retaining(file)
    retaining.rule = Rule(0, ("cli",))
    retaining.round()
    assert retaining.left == {"old"}
    assert retaining.retention.snapshot()["rounds"] == 0


def test_sources_that_are_not_named_keep_theirs(file: Opened) -> None:
    for source in ("cli", "telegram", "discord"):
        session(file, source, 40, source)
    retaining = Retaining(file)
    retaining.rule = Rule(30, ("cli", "discord"))
    retaining.round()
    assert retaining.left == {"telegram"}


def test_a_round_comes_again_and_a_new_rule_at_once(file: Opened) -> None:
    session(file, "a", 29)
    retaining = Retaining(file)
    retaining.round()
    retaining.wall.advance(2 * DAY)
    assert retaining.round() == 1
    assert retaining.left == {"a"}
    retaining.clock.advance(ROUND_SECONDS)
    retaining.round()
    assert retaining.left == set()
    session(file, "b", 10)
    retaining.rule = Rule(5)
    retaining.round()
    assert retaining.left == set()
    assert retaining.retention.snapshot() == {
        "days": 5, "sources": [], "deleted": 2, "rounds": 3, "last": NOW + 2 * DAY,
    }  # fmt: skip


def test_a_slice_ends_by_number(file: Opened) -> None:
    names = [f"s{number}" for number in range(SLICE_SESSIONS + 50)]
    for name in names:
        session(file, name, 40)
    retaining = Retaining(file, stopwatch=lambda: 0.0)
    assert retaining.retention.step()
    assert retaining.retention.deleted == SLICE_SESSIONS
    retaining.round()
    assert retaining.left == set()
    assert {event.session_id for event in retaining.told} == set(names)


def test_a_slice_ends_by_time_after_at_least_one(file: Opened) -> None:
    for number in range(5):
        session(file, f"s{number}", 40 - number)
    stopwatch = Clock()

    def slow() -> float:
        stopwatch.advance(2 * SLICE_SECONDS)
        return stopwatch()

    retaining = Retaining(file, stopwatch=slow)
    assert retaining.retention.step()
    assert retaining.left == {"s1", "s2", "s3", "s4"}  # the oldest first
    retaining.round()
    assert retaining.left == set()


def test_many_sessions_that_stay_are_looked_at_in_windows_without_a_transaction(
    file: Opened,
) -> None:
    file.connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
        " INSERT INTO sessions (id, source, started_at) SELECT 'k' || i, 'cli', i / 400 FROM n"
    )
    session(file, "last", 31)
    commits = file.store.commits
    retaining = Retaining(file)
    assert retaining.round() == 3
    assert file.store.commits == commits + 1
    assert "last" not in retaining.left


def test_a_session_that_is_reopened_in_between_stays(file: Opened) -> None:
    session(file, "a", 40)
    retaining = Retaining(file)
    begin = file.store.access.begin

    def begin_late() -> None:
        with foreign(file.path) as other:
            other.execute("UPDATE sessions SET ended_at = NULL")
        begin()

    file.store.access.begin = begin_late  # type: ignore[method-assign]
    retaining.round()
    assert retaining.left == {"a"}
    assert retaining.told == []


def test_ids_that_are_no_text_are_passed_over(file: Opened) -> None:
    with foreign(file.path) as other:
        for name in ("CAST(x'ff' AS TEXT)", "x'61'"):
            other.execute(
                "INSERT INTO sessions (id, source, started_at, ended_at)"
                f" VALUES ({name}, 'x', 1, 2)"
            )
    session(file, "a", 40)
    retaining = Retaining(file)
    retaining.round()
    assert file.value("SELECT count(*) FROM sessions") == 2
    assert retaining.retention.deleted == 1


def test_a_damaged_index_is_named(file: Opened) -> None:
    session(file, "a", 40)
    with foreign(file.path) as other:
        other.execute("UPDATE messages_fts_data SET block = x'00' WHERE id = 10")
    retaining = Retaining(file)
    with pytest.raises(IndexDamaged) as raised:
        retaining.round()
    assert raised.value.index == "messages_fts"
    assert retaining.left == {"a"}


def test_the_store_deletes_between_batches_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Event] = []
    options = {"retention": lambda: Rule(1), "deleted": told.extend}
    with opened(tmp_path / "state.db", **options) as file, caplog.at_level(logging.INFO):
        session(file, "a", 2)
        session(file, "b", 2)
        file.care(idle=False)
        assert file.value("SELECT count(*) FROM sessions") == 0
        assert sorted(event.session_id or "" for event in told) == ["a", "b"]
        assert file.store.health()["care"]["retention"]["deleted"] == 2
        assert "deleted 2 sessions older than 1 days" in caplog.text
        file.settle()
        assert file.check().counts == {}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([29, 30, 30.5, 31, 31, 400]),
            st.sampled_from(["cli", "x"]),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.sampled_from([None, "cli", "x", "none"]),
)
def test_it_deletes_what_pruning_deletes(
    tmp_path_factory: pytest.TempPathFactory,
    sessions: list[tuple[float, str, bool]],
    source: str | None,
) -> None:
    left = []
    for way in ("prune", "retain"):
        with opened(tmp_path_factory.mktemp(way) / "state.db") as file:
            for number, (days, from_, ended) in enumerate(sessions):
                session(file, f"s{number}", days, from_, ended)
            if way == "prune":
                ask = SessionPruneSlice(before=NOW - 30 * DAY, source=source, limit=200)
                file.results(ask)
                left.append({name for (name,) in file.rows("SELECT id FROM sessions")})
            else:
                retaining = Retaining(file)
                retaining.rule = Rule(30, (source,) if source else ())
                retaining.round()
                left.append(retaining.left)
    assert left[0] == left[1]
