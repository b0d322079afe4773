"""What a daemon did between two looks at its statistics."""

import bisect
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.cli import rates
from sessiond_client.cli.rates import Snapshot, Spread

BOUNDS = (0.001, 0.01, 0.1, 1.0)
EMPTY = Spread(0, None, None, None)


def histogram(*values: float, bounds: tuple[float, ...] = BOUNDS) -> dict[str, Any]:
    buckets = [0] * (len(bounds) + 1)
    for value in values:
        buckets[bisect.bisect_left(bounds, value)] += 1
    return {
        "count": len(values),
        "sum": sum(values),
        "max": max(values, default=0.0),
        "bounds": list(bounds),
        "buckets": buckets,
    }


def client(pid: int, requests: int, since: float = 1.0) -> dict[str, Any]:
    return {
        "pid": pid,
        "uid": 0,
        "program": f"p{pid}",
        "since": since,
        "requests": requests,
        "pending": 2,
    }


def stats(
    applied: int = 0,
    batches: int = 0,
    reads: int = 0,
    cpu: float = 0.0,
    clients: tuple[dict[str, Any], ...] = (),
    commit: tuple[float, ...] = (),
    **others: Any,
) -> dict[str, Any]:
    return {
        "pid": 1,
        "started": 100.0,
        "cpu_seconds": cpu,
        "resident_bytes": 4096,
        "log": {"bytes": 512},
        "pending_writes": 3,
        "reads_waiting": 4,
        "clients": list(clients),
        "reads": {"message.page": histogram(*[0.0] * reads), "search.messages": histogram()},
        "writer": {
            "requests": {"applied": applied, "failed": 0},
            "batches": batches,
            "batch_size": histogram(*[1.0] * batches),
            "commit_seconds": histogram(*commit),
            "queue_wait_seconds": histogram(),
        },
        **others,
    }


def test_rates_are_differences_by_the_time_between() -> None:
    before = Snapshot(stats(100, 10, 7, cpu=1.0, commit=(0.5,)), 10.0)
    after = Snapshot(stats(300, 20, 10, cpu=1.5, commit=(0.5, 0.005, 0.005)), 12.0)
    found = rates.between(before, after)
    assert found.seconds == 2.0
    assert (found.writes_per_second, found.batches_per_second) == (100.0, 5.0)
    assert (found.reads_per_second, found.failures_per_second, found.cpu) == (1.5, 0.0, 0.25)
    assert (found.commit.count, found.commit.p50, found.commit.p99) == (2, 0.01, 0.01)
    assert found.commit.mean == pytest.approx(0.005)
    assert (found.batch_size.count, found.queue) == (10, EMPTY)
    assert (found.resident_bytes, found.log_bytes) == (4096, 512)
    assert (found.writes_waiting, found.reads_waiting) == (3, 4)


@pytest.mark.parametrize(
    "before",
    [
        None,
        Snapshot(stats(50, pid=2), 5.0),  # another daemon
        Snapshot(stats(50, started=99.0), 5.0),  # the same number by chance
    ],
)
def test_of_a_daemons_first_look_no_rate_is_known(before: Snapshot | None) -> None:
    found = rates.between(before, Snapshot(stats(100, clients=(client(7, 9),)), 10.0))
    assert found.seconds is None
    assert found.writes_per_second is None
    assert found.cpu is None
    assert found.commit == EMPTY
    assert found.clients[0].requests_per_second is None
    assert found.writes_waiting == 3


def test_clients_by_how_busy_they_are() -> None:
    before = stats(clients=(client(1, 10), client(2, 10), client(3, 10)))
    after = stats(clients=(client(1, 11), client(2, 30), client(4, 99), client(3, 10, since=8.0)))
    found = rates.between(Snapshot(before, 0.0), Snapshot(after, 2.0)).clients
    assert [(each.pid, each.requests_per_second) for each in found] == [
        (2, 10.0), (1, 0.5), (4, None), (3, None),
    ]  # fmt: skip
    assert (found[0].program, found[0].requests, found[0].waiting) == ("p2", 30, 2)


def test_connections_that_began_at_once_are_told_apart() -> None:
    before = stats(clients=(client(1, 10), client(1, 100)))
    after = stats(clients=(client(1, 12), client(1, 101)))
    found = rates.between(Snapshot(before, 0.0), Snapshot(after, 1.0)).clients
    assert [each.requests_per_second for each in found] == [2.0, 1.0]


def test_jobs_that_run() -> None:
    jobs = [{"id": 1, "state": "done"}, {"id": 2, "state": "running"}]
    assert rates.between(None, Snapshot(stats(jobs=jobs), 1.0)).jobs == (jobs[1],)


values = st.lists(st.floats(0.0001, 10.0), max_size=40)


@given(values, values)
def test_a_spread_is_of_the_values_in_between(first: list[float], later: list[float]) -> None:
    found = rates.difference(histogram(*first), histogram(*first, *later))
    assert found.count == len(later)
    if not later:
        assert found == EMPTY
        return
    assert found.mean == pytest.approx(math.fsum(later) / len(later), rel=1e-6, abs=1e-9)
    ends = (*BOUNDS, max(first + later))
    for share, percentile in ((0.5, found.p50), (0.99, found.p99)):
        exact = sorted(later)[math.ceil(share * len(later)) - 1]
        # The end of the bucket that holds it, and never more than was ever seen.
        assert percentile == min(ends[bisect.bisect_left(BOUNDS, exact)], max(first + later))


def test_an_empty_histogram_is_as_good_as_none() -> None:
    assert rates.difference(None, histogram(0.5)) == rates.difference(histogram(), histogram(0.5))
    assert rates.difference(None, None) == EMPTY
