"""What ``sessionctl stats`` makes of a daemon's statistics."""

from typing import Any

from sessiond_client.cli.commands import stats


def histogram(count: int, total: float, most: float) -> dict[str, Any]:
    return {"count": count, "sum": total, "max": most, "p50": most / 2, "p99": most}


STATS: dict[str, Any] = {
    "started": 1000.0,
    "sessions": 1,
    "messages": 2000,
    "write_count": 500,
    "inbox": {"requests": 1, "bytes": 2048},
    "connections": 2,
    "accepted": 9,
    "refused": 0,
    "max_resident_bytes": 64 * 1024**2,
    "writer": {
        "batches": 100,
        "requests": {"applied": 500, "failed": 3, "replayed": 1},
        "replayed_batches": 2,
        "batch_size": histogram(100, 503, 40),
        "commit_seconds": histogram(100, 0.25, 0.01),
        "queue_wait_seconds": histogram(0, 0, 0),
    },
    "reads": {"search.messages": histogram(4, 0.1, 0.05)},
}


def test_facts() -> None:
    assert stats.facts(STATS, 1100.0) == [
        ("up", "1 min 40 s"),
        ("holds", "1 session, 2,000 messages"),
        ("writes", "500 applied, 3 failed, 0 refused, 1 answered again"),
        ("on average", "5.0 writes a second"),
        ("transactions", "100, on average 5.0 writes, at most 40, 2 run again"),
        ("waiting", "1 write, 2 KiB"),
        ("connections", "2 now, 9 accepted, 0 refused"),
        ("most memory", "64 MiB"),
    ]


def test_a_daemon_that_has_done_nothing() -> None:
    writer = {**STATS["writer"], "batch_size": histogram(0, 0, 0)}
    facts = dict(stats.facts({**STATS, "writer": writer}, 1000.0))
    assert facts["transactions"] == "none"
    assert facts["up"] == "0 s"


def test_times_of_the_writer_and_of_reads() -> None:
    found = dict(stats.histograms(STATS))
    assert list(found) == ["commit", "queue wait", "search.messages"]
    assert stats.time_row("commit", found["commit"]) == (
        "commit", "100", "2.5 ms", "5 ms", "10 ms", "10 ms",
    )  # fmt: skip
