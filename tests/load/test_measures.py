"""What is made of measured figures: goals, units, rows, and a measure that breaks."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.load import measures
from tests.load.measured.goals import (
    Beside,
    Goal,
    Measure,
    Measured,
    Round,
    Unit,
    figure_rows,
    goal_rows,
    values,
)
from tests.load.measured.site import Site, percentile, timed

AT_MOST = Goal("slower", "ours", "theirs", 2)
AT_LEAST = Goal("faster", "ours", "theirs", 0.8, at_least=True)
ABOVE = Goal("more", "ours", "theirs", 0.5, Beside.ABOVE)
ALONE = Goal("enough", "ours", bound=0.005)


def site(folder: Path) -> Site:
    return Site(folder, ["text"], 0.0, quick=True, say=lambda _: None)


def a_measure(*rounds: Round, goals: tuple[Goal, ...] = ()) -> Measure:
    """One that tells these figures and then breaks."""
    left = iter(rounds)

    @contextlib.contextmanager
    def prepared(_site: Site) -> Iterator[Callable[[int], Round]]:
        def measured(number: int) -> Round:
            found = next(left, None)
            if found is None:
                raise RuntimeError(f"there is no round {number}")
            return found

        yield measured

    return Measure("tried", "what is tried", {"ours": Unit.SECONDS, "theirs": Unit.SECONDS},
                   goals, prepared)  # fmt: skip


@pytest.mark.parametrize(
    ("goal", "ours", "theirs", "value", "reached"),
    [
        (AT_MOST, 3.0, 1.5, 2.0, True),
        (AT_MOST, 3.1, 1.5, 3.1 / 1.5, False),
        (AT_LEAST, 80.0, 100.0, 0.8, True),
        (AT_LEAST, 79.0, 100.0, 0.79, False),
        (ABOVE, 1.5, 1.0, 0.5, True),
        (ABOVE, 1.75, 1.0, 0.75, False),
        (ALONE, 0.005, 9.0, 0.005, True),
        (ALONE, 0.006, 9.0, 0.006, False),
    ],
)
def test_a_goal_compares_and_judges(
    goal: Goal, ours: float, theirs: float, value: float, reached: bool
) -> None:
    found = goal.of({"ours": ours, "theirs": theirs})
    assert found == value
    assert goal.reached(found) is reached


def test_a_goal_without_its_figures_has_no_value() -> None:
    assert AT_MOST.of({"theirs": 1.0}) is None
    assert AT_MOST.of({"ours": 1.0}) is None
    assert values(AT_MOST, [{"ours": 1.0}, {"ours": 1.0, "theirs": 4.0}]) == [0.25]


def test_a_goal_without_a_bound_is_only_shown() -> None:
    goal = Goal("shown", "ours", "theirs")
    assert goal.reached(1e9)
    found = Measured(a_measure(goals=(goal,)), [{"ours": 3.0, "theirs": 2.0}])
    assert list(goal_rows(found)) == [("shown", "1.50", "1.50 to 1.50", "", "")]


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        (Unit.SECONDS, 0.0123, "12.3 ms"),
        (Unit.SECONDS, 1.25, "1.25 s"),
        (Unit.BYTES, 15 * 1024 * 1024, "15.0 MiB"),
        (Unit.PER_SECOND, 12345.6, "12,346"),
        (Unit.TIMES, 1.2, "1.20"),
        (Unit.TIMES, 0.0123, "0.012"),
    ],
)
def test_values_are_shown_in_their_unit(unit: Unit, value: float, shown: str) -> None:
    assert unit.shown(value) == shown


def test_rows_show_median_spread_and_goal() -> None:
    rounds: list[Round] = [
        {"ours": 0.002, "theirs": 0.001},
        {"ours": 0.009, "theirs": 0.003},
        {"ours": 0.004, "theirs": 0.004},
    ]
    found = Measured(a_measure(goals=(AT_MOST, ABOVE, ALONE)), rounds)
    assert list(figure_rows(found)) == [
        ("tried", "ours", "4 ms", "2 ms to 9 ms"),
        ("tried", "theirs", "3 ms", "1 ms to 4 ms"),
    ]
    assert list(goal_rows(found)) == [
        ("slower", "2.00", "1.00 to 3.00", "≤ 2.00", "yes"),
        ("more", "1 ms", "0 ms to 6 ms", "≤ 500 ms", "yes"),
        ("enough", "4 ms", "2 ms to 9 ms", "≤ 5 ms", "yes"),
    ]


def test_a_measure_that_breaks_keeps_what_it_had(tmp_path: Path) -> None:
    found = measures.measure(a_measure({"ours": 1.0}), site(tmp_path), 3)
    assert found.rounds == [{"ours": 1.0}]
    assert found.failed == "RuntimeError: there is no round 1"


def test_every_goal_speaks_of_figures_that_are_measured() -> None:
    for measure in measures.MEASURES.values():
        for goal in measure.goals:
            assert goal.ours in measure.figures
            if goal.theirs is None:
                assert goal.beside is Beside.TIMES
            else:
                assert measure.figures[goal.ours] is measure.figures[goal.theirs]
    names = [goal.name for measure in measures.MEASURES.values() for goal in measure.goals]
    assert len(set(names)) == len(names)


def test_at_least_one_call_is_timed() -> None:
    calls: list[int] = []
    assert len(timed(calls.append, 0.0)) == len(calls) == 1
    taken = timed(calls.append, 0.001)
    assert calls[1:] == list(range(len(taken)))
    assert percentile([0.001, 0.002, 0.003], "p50") == 0.002
    assert percentile([0.001, 0.002, 0.003], "max") == 0.003


@pytest.mark.slow
def test_the_command_prints_every_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cheapest measure, from the command line to JSON; the scratch folder goes."""
    for name in ("HOME", "SESSIOND_DATABASE", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
        monkeypatch.setenv(name, str(tmp_path))  # what the command changes is put back
    words = ["--only", "import", "--rounds", "2", "--seconds", "0", "--quick", "--json"]
    assert measures.main([*words, "--folder", str(tmp_path / "disk")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machine"]["cores"] >= 1
    (found,) = told["measures"]
    assert (found["name"], found["failed"]) == ("import", None)
    assert len(found["rounds"]) == 2
    for figures in found["rounds"]:
        assert set(figures) == set(found["units"])
        assert figures["import sessiond_client: memory"] > figures["pass: memory"]
    assert list((tmp_path / "disk").iterdir()) == []
