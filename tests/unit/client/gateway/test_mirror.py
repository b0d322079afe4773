"""When the mirror is written, and from what."""

import json
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client import Unavailable
from sessiond_client.gateway.legacy import MIRROR_NAME
from sessiond_client.gateway.mirror import PAUSE, Pace, rewrite_mirror
from sessiond_client.gateway.steps import FileWork, Step
from sessiond_protocol.requests.route import Route, RouteList
from tests.unit.client.gateway.table import Running, Table, carry_out

events = st.lists(st.tuples(st.sampled_from(["change", "look"]), st.floats(0, 3)), max_size=40)


@given(events)
def test_it_is_written_after_every_change_and_at_most_once_in_a_pause(
    events: list[tuple[str, float]],
) -> None:
    pace, now = Pace(), 0.0
    written: list[float] = []
    changed_at: float | None = None
    for what, seconds in events:
        now += seconds
        if what == "change":
            pace.changed()
            changed_at = changed_at if changed_at is not None else now
        assert pace.is_due is (changed_at is not None)
        if pace.is_due and pace.delay(now) == 0:
            pace.begin(now)
            written.append(now)
            changed_at = None
        elif pace.is_due:
            assert pace.delay(now) < PAUSE + 1e-9
            assert written
    assert all(later - earlier > PAUSE - 1e-9 for earlier, later in pairwise(written))


def test_a_change_while_it_is_written_is_not_in_it() -> None:
    pace = Pace()
    pace.changed()
    pace.begin(0.0)
    assert not pace.is_owed
    pace.changed()
    assert pace.is_due


def test_a_failure_waits_for_the_next_change_or_the_end() -> None:
    pace = Pace()
    pace.begin(0.0)
    pace.failed()
    assert (pace.is_due, pace.is_owed) == (False, True)
    pace.begin(PAUSE)
    assert not pace.is_owed


@pytest.fixture
def table() -> Table:
    table = Table()
    table.routes["k"] = Route(
        session_key="k", session_id="s", version=1, updated_at=1.5e9, entry='{"created_at":1e9}'
    )
    return table


def mirrored(folder: Path) -> Any:
    return json.loads((folder / MIRROR_NAME).read_bytes())


def test_it_holds_what_the_database_holds_and_what_could_not_be_read(
    table: Table, tmp_path: Path
) -> None:
    assert carry_out(rewrite_mirror(tmp_path, {"odd": 5}), table) is True
    assert mirrored(tmp_path)["k"]["session_id"] == "s"
    assert mirrored(tmp_path)["odd"] == 5


def test_the_database_is_read_under_the_lock(table: Table, tmp_path: Path) -> None:
    """Of two writers the second one knows all that the first one knew."""
    steps: list[Step] = []

    def answer(step: Step) -> Any:
        steps.append(step)
        return table.answer(step)

    running = Running(rewrite_mirror(tmp_path, {}))
    while not running.is_done:
        running.carry_out(answer)
    assert [type(step) for step in steps] == [FileWork, RouteList, FileWork]
    assert isinstance(steps[0], FileWork)
    assert steps[0].undo is ExitStack.close


def test_a_failure_is_logged_and_leaves_the_old_one(
    table: Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    carry_out(rewrite_mirror(tmp_path, {}), table)
    before = mirrored(tmp_path)

    def answer(step: Step) -> Any:
        if isinstance(step, RouteList):
            raise Unavailable("no daemon answers")
        return table.answer(step)

    running = Running(rewrite_mirror(tmp_path, {}))
    while not running.is_done:
        running.carry_out(answer)
    assert running.result is False
    assert "cannot be mirrored: no daemon answers" in caplog.text
    assert mirrored(tmp_path) == before
    # The lock was let go: the next one does not wait for it.
    assert carry_out(rewrite_mirror(tmp_path, {}), table) is True


def test_the_lock_is_let_go_when_the_writer_is_abandoned(table: Table, tmp_path: Path) -> None:
    running = Running(rewrite_mirror(tmp_path, {}))
    running.carry_out(table.answer)
    running.carry_out(table.answer)
    running.abandon(table.answer, after_the_step=False)
    assert carry_out(rewrite_mirror(tmp_path, {}), table) is True
