"""What one worker noted while it worked, and what a run of several workers comes to."""

import math
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

PERCENTILES: Final = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a worker starts and stops, on the machine's monotonic clock (seconds).

    It stops at the earlier of ``deadline`` and ``count`` operations (None: no such bound).
    """

    start: float
    deadline: float
    count: int | None


@dataclass(slots=True)
class Notes:
    """One worker's record: bounded work in, latencies in seconds out."""

    bounds: Bounds
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    started: int = 0
    messages: int = 0
    late: int = 0
    late_messages: int = 0
    failed: int = 0
    first_failure: str | None = None
    last_answer: float = 0.0

    def more(self) -> bool:
        """Whether another operation may start."""
        count = self.bounds.count
        return (count is None or self.started < count) and time.monotonic() < self.bounds.deadline

    def start(self) -> float:
        """Note that an operation starts; gives the time to hand back to ``answered``."""
        self.started += 1
        return time.monotonic()

    def answered(self, started: float, messages: int, at: float | None = None) -> None:
        """Note that the operation is done and durable, now or at the given time.

        What is answered after the deadline has its latency counted, but not its work: a worker
        that waited a second longer than the others would make the others' rate look worse.
        """
        now = time.monotonic() if at is None else at
        self.latencies.append(now - started)
        self.messages += messages
        self.last_answer = now
        if now > self.bounds.deadline:
            self.late += 1
            self.late_messages += messages

    def fail(self, error: Exception) -> None:
        """Note that an operation was given up."""
        self.failed += 1
        self.first_failure = self.first_failure or f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker sends back when it is done."""

    worker: int
    warm_up_messages: int
    cpu_seconds: float
    notes: Notes


def latency_ms(latencies: Sequence[float]) -> dict[str, float]:
    """Percentiles by nearest rank and the maximum, in milliseconds; empty without latencies."""
    ordered = sorted(latencies)
    if not ordered:
        return {}
    found = {name: ordered[_rank(share, len(ordered))] for name, share in PERCENTILES}
    return {name: round(value * 1000, 4) for name, value in (found | {"max": ordered[-1]}).items()}


def _rank(share: float, count: int) -> int:
    return max(0, math.ceil(share * count) - 1)
