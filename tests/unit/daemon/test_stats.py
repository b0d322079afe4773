"""What is counted."""

import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.database import Applied
from sessiond.stats import SECONDS, Histogram, ReadStats, WriterStats
from sessiond.work import Fate, Outcome
from tests.unit.daemon.stores import appending, works

values = st.lists(st.floats(0, 100), min_size=1, max_size=50)


def test_values_fall_into_the_bucket_whose_end_they_do_not_exceed() -> None:
    histogram = Histogram((1, 10, 100))
    for value in (0.5, 1, 1.1, 10, 99, 1000):
        histogram.add(value)
    assert histogram.buckets == [2, 2, 1, 1]
    assert (histogram.count, histogram.highest) == (6, 1000)
    assert histogram.total == pytest.approx(1111.6)


def test_a_value_may_count_several_times() -> None:
    histogram = Histogram((1, 10))
    histogram.add(5, times=3)
    assert (histogram.count, histogram.total, histogram.buckets) == (3, 15, [0, 3, 0])


def test_an_empty_histogram_is_all_zero() -> None:
    snapshot = Histogram(SECONDS).snapshot()
    assert (snapshot["count"], snapshot["p50"], snapshot["p99"], snapshot["max"]) == (0, 0, 0, 0)


@given(values)
def test_quantiles_are_upper_bounds_and_never_above_the_highest(found: list[float]) -> None:
    histogram = Histogram(SECONDS)
    for value in found:
        histogram.add(value)
    assert sum(histogram.buckets) == histogram.count == len(found)
    ordered = sorted(found)
    for q in (0.0, 0.5, 0.99, 1.0):
        exact = ordered[min(len(ordered) - 1, int(q * len(ordered)))] if q < 1 else ordered[-1]
        quantile = histogram.quantile(q)
        assert quantile <= histogram.highest
        reached = sum(1 for value in found if value <= quantile)
        assert reached >= q * len(found) or quantile == histogram.highest
        assert exact <= histogram.highest


def test_a_batch_is_counted_by_outcome() -> None:
    stats = WriterStats()
    batch = works(*[appending("s", "x")] * 3)
    for work in batch:
        work.received = 1.0
    outcomes = [Outcome(Fate.APPLIED), Outcome(Fate.FAILED), Outcome(Fate.APPLIED)]
    stats.batch(Applied(batch, outcomes, [], 1, 2, 0.1, 0.2, 0.3), taken=1.5, committed=2.0)
    second = Applied(batch[:1], outcomes[:1], [], 1, 1, 0.1, 0.2, 0.3, 0.25)
    stats.batch(second, taken=1.5, committed=2.0)
    snapshot = stats.snapshot()
    assert snapshot["batches"] == 2
    assert snapshot["replayed_batches"] == 1
    assert snapshot["requests"]["applied"] == 3
    assert snapshot["requests"]["failed"] == 1
    assert set(snapshot["requests"]) == {fate.name.lower() for fate in Fate}
    assert snapshot["batch_size"]["sum"] == 4
    assert snapshot["queue_wait_seconds"]["max"] == 0.5
    assert snapshot["commit_seconds"]["count"] == 2
    assert snapshot["sync_seconds"]["max"] == 0.25


def test_snapshots_can_be_sent() -> None:
    reads = ReadStats()
    reads.add("session.get", 0.01)
    plain = {"writer": WriterStats().snapshot(), "reads": reads.snapshot()}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(plain)) == plain


def test_reads_are_counted_by_method_from_any_thread() -> None:
    stats = ReadStats()

    def count() -> None:
        for _ in range(500):
            stats.add("session.get", 0.001)
            stats.add("message.page", 0.002)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = stats.snapshot()
    assert list(snapshot) == ["message.page", "session.get"]
    assert [each["count"] for each in snapshot.values()] == [2000, 2000]
