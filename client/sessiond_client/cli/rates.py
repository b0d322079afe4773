"""What a daemon did between two looks at its statistics. Pure: ``server.stats`` in, rates out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Stats = Mapping[str, Any]

_NOTHING: Final[Mapping[str, Any]] = {"count": 0, "sum": 0.0, "buckets": ()}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A daemon's statistics, and when: seconds of a clock that only goes forward."""

    stats: Stats
    at: float


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram's values of one interval; percentiles are upper ends of buckets.

    All but ``count`` are None where there was no value.
    """

    count: int
    mean: float | None
    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class ClientRate:
    """One connection; ``requests_per_second`` is None for one that was not there before."""

    pid: int | None
    uid: int | None
    program: str | None
    requests_per_second: float | None
    requests: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened in ``seconds``, and how things stand at their end.

    Of the first look at a daemon nothing is known of any interval: ``seconds`` and all rates are
    None, spreads are empty. Latencies are seconds; ``cpu`` is 1.0 for one processor.
    """

    seconds: float | None
    writes_per_second: float | None
    failures_per_second: float | None
    batches_per_second: float | None
    reads_per_second: float | None
    batch_size: Spread
    commit: Spread
    queue: Spread
    cpu: float | None
    resident_bytes: int | None
    log_bytes: int | None
    writes_waiting: int
    reads_waiting: int
    jobs: tuple[Mapping[str, Any], ...]
    clients: tuple[ClientRate, ...]


def between(before: Snapshot | None, after: Snapshot) -> Rates:
    """The rates from one snapshot to the next; ``before`` may be of another daemon, or none."""
    stats, writer = after.stats, after.stats["writer"]
    known = before if before is not None and _same_daemon(before.stats, stats) else None
    old: Stats = known.stats if known else {}
    seconds = max(after.at - known.at, 1e-9) if known else None

    def rate(count: Any) -> float | None:
        return None if seconds is None else (count(stats) - count(old)) / seconds

    def spread(name: str) -> Spread:
        return difference(old["writer"][name], writer[name]) if known else difference(None, None)

    return Rates(
        seconds=seconds,
        writes_per_second=rate(lambda each: each["writer"]["requests"]["applied"]),
        failures_per_second=rate(lambda each: each["writer"]["requests"]["failed"]),
        batches_per_second=rate(lambda each: each["writer"]["batches"]),
        reads_per_second=rate(_reads),
        batch_size=spread("batch_size"),
        commit=spread("commit_seconds"),
        queue=spread("queue_wait_seconds"),
        cpu=rate(lambda each: each["cpu_seconds"]),
        resident_bytes=stats.get("resident_bytes"),
        log_bytes=stats.get("log", {}).get("bytes"),
        writes_waiting=stats["pending_writes"],
        reads_waiting=stats.get("reads_waiting", 0),
        jobs=tuple(job for job in stats.get("jobs", ()) if job["state"] == "running"),
        clients=_clients(old.get("clients", ()), stats["clients"], seconds),
    )


def _same_daemon(before: Stats, after: Stats) -> bool:
    return (before["pid"], before["started"]) == (after["pid"], after["started"])


def _reads(stats: Stats) -> int:
    return sum(each["count"] for each in stats["reads"].values() if isinstance(each, Mapping))


def difference(before: Stats | None, after: Stats | None) -> Spread:
    """The values that a histogram counted in between; None stands for an empty one."""
    old, new = before or _NOTHING, after or _NOTHING
    count = new["count"] - old["count"]
    if count <= 0:
        return Spread(0, None, None, None)
    buckets = list(new["buckets"])
    for place, already in enumerate(old["buckets"]):
        buckets[place] -= already
    # What lies over the last bound is no larger than the largest value ever seen.
    ends = [min(end, new["max"]) for end in (*new["bounds"], new["max"])]
    return Spread(
        count,
        (new["sum"] - old["sum"]) / count,
        _percentile(ends, buckets, 0.5 * count),
        _percentile(ends, buckets, 0.99 * count),
    )


def _percentile(ends: Sequence[float], buckets: Sequence[int], wanted: float) -> float:
    seen = 0
    for end, count in zip(ends, buckets, strict=True):
        seen += count
        if seen >= wanted:
            return end
    return ends[-1]


def _clients(
    before: Iterable[Mapping[str, Any]],
    after: Iterable[Mapping[str, Any]],
    seconds: float | None,
) -> tuple[ClientRate, ...]:
    """Every connection that is there now, the busiest first."""
    # Connections of one process may begin at the same moment: then their counts are told apart
    # by their order, in which the daemon lists them both times.
    earlier: dict[tuple[Any, Any], list[int]] = {}
    for each in before:
        earlier.setdefault((each["pid"], each["since"]), []).append(each["requests"])
    rates = []
    for each in after:
        counts = earlier.get((each["pid"], each["since"]))
        rate = (each["requests"] - counts.pop(0)) / seconds if counts and seconds else None
        rates.append(
            ClientRate(
                pid=each["pid"],
                uid=each["uid"],
                program=each["program"],
                requests_per_second=rate,
                requests=each["requests"],
                waiting=each["pending"],
            )
        )
    return tuple(sorted(rates, key=lambda each: -(each.requests_per_second or 0.0)))
