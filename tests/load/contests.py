"""What is compared with what, and what is to be reached."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from tests.load.programs import SESSIOND, Entry, Result


def _entry(program: str, processes: int, in_flight: int = 1, mix: str = "append") -> Entry:
    options = ("--processes", str(processes), "--in-flight", str(in_flight), "--mix", mix)
    return Entry(program, options)


def _pipelined(program: str) -> str:
    return f"{program}, 8 processes, 500 in flight"


def _one_at_a_time(program: str) -> str:
    return f"{program}, 8 processes, one at a time"


def _alone(program: str) -> str:
    return f"{program}, 1 process"


def _lists(program: str) -> str:
    return f"{program}, 1 process, 20 messages a call"


PIPELINED: Final = _pipelined(SESSIOND)
ONE_AT_A_TIME: Final = _one_at_a_time(SESSIOND)
THIRTY_TWO: Final = "sessiond, 32 processes, one at a time"
ALONE: Final = _alone(SESSIOND)
LISTS: Final = _lists(SESSIOND)
LISTS_PIPELINED: Final = f"{LISTS}, 8 in flight"
DIRECT: Final = "direct, 8 processes"
DIRECT_ALONE: Final = _alone("direct")
HERMES: Final = "hermes-agent, 8 processes"
HERMES_LISTS: Final = "hermes-agent, 20 messages a call"
INPROCESS: Final = _pipelined("inprocess")
INPROCESS_ONE: Final = _one_at_a_time("inprocess")
RAW: Final = _alone("raw")
RAW_LISTS: Final = _lists("raw")
LIMIT: Final = _alone("limit")

# From what the design alone costs to the daemon with its own clients: one rung more each.
RUNGS: Final = ("sketch", "keeping", "frames")

ENTRIES: Final[dict[str, Entry]] = {
    PIPELINED: _entry(SESSIOND, 8, 500),
    RAW: _entry("raw", 1),
    LIMIT: _entry("limit", 1),
    DIRECT: _entry("direct", 8),
    HERMES: _entry("hermes", 8),
    **{_pipelined(rung): _entry(rung, 8, 500) for rung in RUNGS},
    INPROCESS: _entry("inprocess", 8, 500),
    ONE_AT_A_TIME: _entry(SESSIOND, 8),
    **{_one_at_a_time(rung): _entry(rung, 8) for rung in RUNGS},
    INPROCESS_ONE: _entry("inprocess", 8),
    THIRTY_TWO: _entry(SESSIOND, 32),
    ALONE: _entry(SESSIOND, 1),
    **{_alone(rung): _entry(rung, 1) for rung in RUNGS},
    DIRECT_ALONE: _entry("direct", 1),
    LISTS: _entry(SESSIOND, 1, 1, "append_many"),
    LISTS_PIPELINED: _entry(SESSIOND, 1, 8, "append_many"),
    **{_lists(rung): _entry(rung, 1, 1, "append_many") for rung in RUNGS},
    RAW_LISTS: _entry("raw", 1, 1, "append_many"),
    HERMES_LISTS: _entry("hermes", 1, 1, "append_many"),
}
_HIGHER_RUNGS: Final = tuple(name for name in ENTRIES if name.startswith(RUNGS[1:]))
USUAL: Final = tuple(name for name in ENTRIES if name not in _HIGHER_RUNGS)
QUICK: Final = (PIPELINED, ONE_AT_A_TIME, DIRECT)
SHORT: Final = (PIPELINED, RAW, LIMIT, ONE_AT_A_TIME, DIRECT, ALONE, DIRECT_ALONE, LISTS, RAW_LISTS)
FLOOR: Final = tuple(
    name for name in ENTRIES if name.startswith(RUNGS) or name in (HERMES, LIMIT, *SHORT)
)


class Figure(Enum):
    """What of a result is compared."""

    THROUGHPUT = "messages a second"
    P50 = "p50"
    P99 = "p99"
    P999 = "p99.9"
    SHARE = "slowest process"

    def of(self, result: Result) -> float:
        """The figure of one run."""
        if self is Figure.THROUGHPUT:
            return float(result["messages_per_second"])
        if self is Figure.SHARE:
            return float(result["slowest_share"])
        return float(result["latency_ms"][self.value])


@dataclass(frozen=True, slots=True)
class Ratio:
    """``ours`` divided by ``theirs`` (None: 1), and the bound that is to be reached.

    ``at_least`` says on which side of the bound it should lie.
    """

    name: str
    figure: Figure
    ours: str
    theirs: str | None
    bound: float | None = None
    at_least: bool = True

    def of(self, results: dict[str, Result]) -> float | None:
        """The ratio in one round; None if one of the two is missing."""
        if self.ours not in results or (self.theirs is not None and self.theirs not in results):
            return None
        ours = self.figure.of(results[self.ours])
        return ours if self.theirs is None else ours / self.figure.of(results[self.theirs])

    def reached(self, value: float) -> bool:
        """Whether the bound is met."""
        if self.bound is None:
            return True
        return value >= self.bound if self.at_least else value <= self.bound

    @property
    def goal(self) -> str:
        """The bound for people."""
        return "" if self.bound is None else f"{'≥' if self.at_least else '≤'} {self.bound:g}"


_OURS: Final = (
    Ratio("pipelined, against raw", Figure.THROUGHPUT, PIPELINED, RAW, 1.5),
    Ratio("pipelined, against limit", Figure.THROUGHPUT, PIPELINED, LIMIT, 0.75),
    Ratio("pipelined, against direct", Figure.THROUGHPUT, PIPELINED, DIRECT, 18),
    Ratio("pipelined, against hermes-agent", Figure.THROUGHPUT, PIPELINED, HERMES, 30),
    Ratio("pipelined, against inprocess", Figure.THROUGHPUT, PIPELINED, INPROCESS),
    Ratio("one at a time, against direct", Figure.THROUGHPUT, ONE_AT_A_TIME, DIRECT, 3),
    Ratio("one at a time, against hermes-agent", Figure.THROUGHPUT, ONE_AT_A_TIME, HERMES, 5),
    Ratio("one at a time, against inprocess", Figure.THROUGHPUT, ONE_AT_A_TIME, INPROCESS_ONE),
    Ratio("one at a time, p99.9 of direct's", Figure.P999, ONE_AT_A_TIME, DIRECT, 1 / 20, False),
    Ratio("1 process, p50 of direct's", Figure.P50, ALONE, DIRECT_ALONE, 1.4, False),
    Ratio("20 messages a call, against raw", Figure.THROUGHPUT, LISTS, RAW_LISTS, 0.6),
    Ratio("20 messages a call, 8 calls in flight, against raw", Figure.THROUGHPUT,
          LISTS_PIPELINED, RAW_LISTS),
    Ratio("32 processes, against 8", Figure.THROUGHPUT, THIRTY_TWO, ONE_AT_A_TIME, 1),
    Ratio("32 processes, slowest of the mean", Figure.SHARE, THIRTY_TWO, None, 0.5),
)  # fmt: skip


def _floor(rung: str) -> Iterator[Ratio]:
    """What a rung comes to, in the work that it does and that has a goal."""
    works = {work(SESSIOND): work(rung) for work in (_pipelined, _one_at_a_time, _alone, _lists)}
    for ratio in _OURS:
        if ratio.ours in works and ratio.bound is not None:
            name = f"floor: {rung}, {ratio.name}"
            yield replace(ratio, name=name, ours=works[ratio.ours], bound=None)


RATIOS: Final = (*_OURS, *(ratio for rung in RUNGS for ratio in _floor(rung)))
