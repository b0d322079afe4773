"""Figures of a round, what is to be reached, and how both are shown. Pure."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from sessiond_client.cli import output, units
from tests.load.measured.site import Site


class Unit(Enum):
    """What a figure counts."""

    SECONDS = "s"
    BYTES = "B"
    PER_SECOND = "/s"
    TIMES = "x"

    def shown(self, value: float) -> str:
        """A value of this unit for people."""
        if self is Unit.SECONDS:
            return f"{value:.2f} s" if value >= 1 else units.milliseconds(value)
        if self is Unit.BYTES:
            return f"{value / (1 << 20):.1f} MiB"
        if self is Unit.PER_SECOND:
            return units.count(value)
        return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


# Values by name of one round; what could not be had is left out.
Round: TypeAlias = Mapping[str, float]


class Beside(Enum):
    """What a goal makes of our figure and its alternative's."""

    NOTHING = "ours alone"
    TIMES = "ours divided by theirs"
    ABOVE = "ours less theirs"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, alone or beside another of the same round, and its bound (None: only shown)."""

    name: str
    ours: str
    theirs: str | None = None
    bound: float | None = None
    beside: Beside = Beside.TIMES
    at_least: bool = False

    def of(self, figures: Round) -> float | None:
        """The value in one round; None if a figure is missing."""
        ours = figures.get(self.ours)
        if ours is None or self.theirs is None:
            return ours
        theirs = figures.get(self.theirs)
        if theirs is None:
            return None
        return ours / theirs if self.beside is Beside.TIMES else ours - theirs

    def reached(self, value: float) -> bool:
        """Whether the bound is met."""
        if self.bound is None:
            return True
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Measure:
    """One concern. ``prepared(site)`` gives what measures a round, by the round's number.

    ``figures`` has the unit of everything that a round may tell, in the order of the table.
    """

    name: str
    about: str
    figures: Mapping[str, Unit]
    goals: Sequence[Goal]
    prepared: Callable[[Site], AbstractContextManager[Callable[[int], Round]]]

    def unit(self, goal: Goal) -> Unit:
        """What a goal's value counts."""
        compared = goal.theirs is not None and goal.beside is Beside.TIMES
        return Unit.TIMES if compared else self.figures[goal.ours]


@dataclass(slots=True)
class Measured:
    """The rounds of one measure; ``failed`` says why there are no more of them."""

    measure: Measure
    rounds: list[Round] = field(default_factory=list)
    failed: str | None = None


FIGURE_COLUMNS: Final = (
    output.Column("MEASURE"),
    output.Column("FIGURE"),
    output.Column("MEDIAN", right=True),
    output.Column("SPREAD", right=True),
)
GOAL_COLUMNS: Final = (
    output.Column("GOAL"),
    output.Column("MEDIAN", right=True),
    output.Column("SPREAD", right=True),
    output.Column("WANTED", right=True),
    output.Column("REACHED", right=True),
)


def figure_rows(measured: Measured) -> Iterator[tuple[str, ...]]:
    """Median and spread of every figure that was had."""
    name = measured.measure.name
    for figure, unit in measured.measure.figures.items():
        found = [figures[figure] for figures in measured.rounds if figure in figures]
        if found:
            yield (name, figure, *_spread(found, unit))


def goal_rows(measured: Measured) -> Iterator[tuple[str, ...]]:
    """Median and spread of every goal that was measured, its bound, and whether it is met."""
    for goal in measured.measure.goals:
        found = values(goal, measured.rounds)
        if found:
            unit = measured.measure.unit(goal)
            yield (goal.name, *_spread(found, unit), *_wanted(goal, unit, found))


def values(goal: Goal, rounds: Sequence[Round]) -> list[float]:
    """A goal's value in every round that has it."""
    return [value for figures in rounds if (value := goal.of(figures)) is not None]


def _wanted(goal: Goal, unit: Unit, found: Sequence[float]) -> tuple[str, str]:
    if goal.bound is None:
        return "", ""
    wanted = f"{'≥' if goal.at_least else '≤'} {unit.shown(goal.bound)}"
    return wanted, "yes" if goal.reached(statistics.median(found)) else "no"


def _spread(found: Sequence[float], unit: Unit) -> tuple[str, str]:
    middle = unit.shown(statistics.median(found))
    return middle, f"{unit.shown(min(found))} to {unit.shown(max(found))}"
