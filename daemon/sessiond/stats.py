"""What the daemon counts. Histograms have fixed buckets, so counting never allocates."""

import bisect
import operator
import resource
import threading
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from sessiond.database import Applied
from sessiond.slow_log import SlowLog
from sessiond.work import Entry, Fate, Work, requests_in

SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0,
)  # fmt: skip
_METHOD_AND_TIME: Final = operator.attrgetter("method", "received")
SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def resident_bytes() -> int:
    """How much memory this process holds now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def process_figures() -> dict[str, Any]:
    """What this process has used: processor time in seconds, memory in bytes."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "resident_bytes": resident_bytes(),
        "max_resident_bytes": usage.ru_maxrss * 1024,
    }


class Histogram:
    """Counts of values by bucket; ``bounds`` are the buckets' upper ends."""

    __slots__ = ("bounds", "buckets", "count", "highest", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.count = 0
        self.total = 0.0
        self.highest = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.buckets[bisect.bisect_left(self.bounds, value)] += times
        self.count += times
        self.total += value * times
        self.highest = max(self.highest, value)

    def quantile(self, q: float) -> float:
        """The upper end of the bucket where this share of the values is reached."""
        wanted = q * self.count
        seen = 0
        for bound, count in zip((*self.bounds, self.highest), self.buckets, strict=True):
            seen += count
            if seen >= wanted:
                return min(bound, self.highest)
        return self.highest

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "count": self.count,
            "sum": self.total,
            "max": self.highest,
            "p50": self.quantile(0.5),
            "p99": self.quantile(0.99),
            "bounds": list(self.bounds),
            "buckets": list(self.buckets),
        }


class WriterStats:
    """What the writer counts; read by the event loop at any time."""

    def __init__(self, slow: SlowLog | None = None) -> None:
        self._slow = slow or SlowLog(0)
        self._times: dict[str, Histogram] = {}
        self.batches = 0
        self.requests = dict.fromkeys(Fate, 0)
        self.replayed_batches = 0
        self.batch_size = Histogram(SIZES)
        self.queue_wait = Histogram(SECONDS)
        self.lock_wait = Histogram(SECONDS)
        self.apply_time = Histogram(SECONDS)
        self.commit_time = Histogram(SECONDS)
        self.sync_time = Histogram(SECONDS)

    def batch(self, applied: Applied, taken: float, committed: float) -> None:
        """Count one batch, which left the inbox at ``taken`` and was done at ``committed``."""
        writes, outcomes = applied.works, applied.outcomes
        count = requests_in(writes)
        self.batches += 1
        others = [each.fate for each in outcomes if each.fate is not Fate.APPLIED]
        self.requests[Fate.APPLIED] += count - len(others)
        for fate in others:
            self.requests[fate] += 1
        if applied.runs > 1:
            self.replayed_batches += 1
        self.batch_size.add(count)
        self.queue_wait.add(taken - writes[0].received)
        self.lock_wait.add(applied.begin_seconds)
        self.apply_time.add(applied.apply_seconds)
        self.commit_time.add(applied.commit_seconds)
        self.sync_time.add(applied.sync_seconds)
        self._count_times(writes, committed)
        self._slow.batch(applied, taken, committed)

    def _count_times(self, writes: Sequence[Entry], committed: float) -> None:
        times = self._times
        # What came in one piece was received at the same time.
        for (method, received), alike in groupby(writes, key=_METHOD_AND_TIME):
            histogram = times.get(method)
            if histogram is None:
                # In the place of the old dict: whoever goes through that is not disturbed.
                times = self._times = {**times, method: Histogram(SECONDS)}
                histogram = times[method]
            histogram.add(committed - received, requests_in(alike))

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "batches": self.batches,
            "requests": {fate.name.lower(): count for fate, count in self.requests.items()},
            "replayed_batches": self.replayed_batches,
            "batch_size": self.batch_size.snapshot(),
            "queue_wait_seconds": self.queue_wait.snapshot(),
            "lock_wait_seconds": self.lock_wait.snapshot(),
            "apply_seconds": self.apply_time.snapshot(),
            "commit_seconds": self.commit_time.snapshot(),
            "sync_seconds": self.sync_time.snapshot(),
            "request_seconds": {
                method: each.snapshot() for method, each in sorted(self._times.items())
            },
        }


class ReadStats:
    """Request time by method, for reads. Several threads count here."""

    def __init__(self, slow: SlowLog | None = None) -> None:
        self._slow = slow or SlowLog(0)
        self._lock = threading.Lock()
        self._times: dict[str, Histogram] = {}
        self.failed = 0

    def read(self, work: Work, started: float, answered: float) -> None:
        """Count one read, whose work began at ``started``."""
        self.add(work.request.METHOD, answered - work.received)
        self._slow.read(work, started, answered)

    def add(self, method: str, seconds: float) -> None:
        """Count one read that was answered."""
        with self._lock:
            histogram = self._times.get(method)
            if histogram is None:
                histogram = self._times[method] = Histogram(SECONDS)
            histogram.add(seconds)

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain values."""
        with self._lock:
            return {method: each.snapshot() for method, each in sorted(self._times.items())}
