"""What ``server.stats`` answers, as Prometheus reads it: the same for all who print it.

Names follow Prometheus's "Metric and label naming": base units, ``_total`` for counters. A
figure that a daemon does not have yet, while it opens its file, is left out.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

Stats = Mapping[str, Any]
Path = tuple[str, ...]

_COUNTERS: Final[tuple[tuple[str, str, Path], ...]] = (
    ("sessiond_connections_accepted", "connections that were let in", ("accepted",)),
    ("sessiond_connections_refused", "connections that were not let in", ("refused",)),
    ("sessiond_batches", "transactions of requests", ("writer", "batches")),
    (
        "sessiond_batches_replayed",
        "transactions that had to be run more than once",
        ("writer", "replayed_batches"),
    ),
    (
        "sessiond_foreign_commits",
        "times that another program was seen to have committed",
        ("foreign_commits",),
    ),
    ("sessiond_index_rebuilds", "search indexes that were made anew", ("index", "rebuilds")),
    ("sessiond_index_mended_rows", "rows of side tables that were mended", ("index", "mended")),
    ("sessiond_index_merges", "steps of merging the search index", ("index", "merges")),
    (
        "sessiond_retention_deleted_sessions",
        "sessions that were deleted for their age",
        ("care", "retention", "deleted"),
    ),
    ("sessiond_optimize_runs", "updates of the planner's statistics", ("care", "optimize", "runs")),
    ("process_cpu_seconds", "processor time of the daemon", ("cpu_seconds",)),
)
_GAUGES: Final[tuple[tuple[str, str, Path], ...]] = (
    ("sessiond_connections", "connections now", ("connections",)),
    ("sessiond_watchers", "subscriptions to the feed", ("watchers",)),
    ("sessiond_inbox_requests", "writes that wait for the writer", ("inbox", "requests")),
    ("sessiond_inbox_bytes", "bytes of writes that wait", ("inbox", "bytes")),
    ("sessiond_reads_waiting", "reads that wait for a thread", ("reads_waiting",)),
    ("sessiond_writable", "1 while writes are accepted", ("writable",)),
    ("sessiond_guarded", "1 while the files are guarded against others", ("guarded",)),
    ("sessiond_log_bytes", "bytes of the write-ahead log that are in use", ("log", "bytes")),
    ("sessiond_log_pinned", "1 while a reader keeps a too long log", ("log", "pinned")),
    ("sessiond_log_readers", "processes that read through the log", ("readers", "count")),
    (
        "sessiond_log_oldest_reader_page",
        "page of the log up to which the oldest reader sees",
        ("readers", "oldest", "frame"),
    ),
    (
        "sessiond_checkpoint_age_seconds",
        "time since the last checkpoint",
        ("checkpoints", "age"),
    ),
    (
        "sessiond_backup_timestamp_seconds",
        "when this daemon last finished a backup, Unix time",
        ("last_backup",),
    ),
    ("sessiond_commits", "commits in the life of the file", ("commits",)),
    ("sessiond_schema_version", "version of the database's schema", ("schema", "version")),
    ("process_start_time_seconds", "when the daemon started, Unix time", ("started",)),
    ("process_resident_memory_bytes", "memory that the daemon holds", ("resident_bytes",)),
    (
        "process_resident_memory_max_bytes",
        "the most memory that the daemon has held",
        ("max_resident_bytes",),
    ),
)
_HISTOGRAMS: Final[tuple[tuple[str, str, Path], ...]] = (
    ("sessiond_batch_requests", "writes in one transaction", ("writer", "batch_size")),
    (
        "sessiond_queue_wait_seconds",
        "how long a transaction's oldest write waited for the writer",
        ("writer", "queue_wait_seconds"),
    ),
    (
        "sessiond_lock_wait_seconds",
        "how long a transaction waited for another program's lock",
        ("writer", "lock_wait_seconds"),
    ),
    (
        "sessiond_apply_seconds",
        "how long a transaction's statements took",
        ("writer", "apply_seconds"),
    ),
    (
        "sessiond_commit_seconds",
        "how long a commit took, the sync of the log in it",
        ("writer", "commit_seconds"),
    ),
    (
        "sessiond_sync_seconds",
        "how long of a commit the writer waited, which is for the disk",
        ("writer", "sync_seconds"),
    ),
    (
        "sessiond_checkpoint_seconds",
        "how long a checkpoint took",
        ("checkpoints", "seconds"),
    ),
)


def render(stats: Stats) -> bytes:
    """The text that Prometheus reads, of the type :data:`CONTENT_TYPE`."""
    registry = CollectorRegistry()
    registry.register(_Collected(families(stats)))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = list(found)

    def collect(self) -> Iterable[Metric]:
        return self._found


def families(stats: Stats) -> Iterator[Metric]:
    """Every metric with its samples."""
    info = GaugeMetricFamily("sessiond_info", "what runs and what it serves", labels=_INFO)
    info.add_metric([str(stats.get(name, "")) for name in _INFO], 1)
    yield info
    state = GaugeMetricFamily("sessiond_state", "1 for the daemon's state", labels=["state"])
    for name in _STATES:
        state.add_metric([name], float(stats.get("state") == name))
    yield state
    for name, text, path in _COUNTERS:
        if (value := _at(stats, path)) is not None:
            yield CounterMetricFamily(name, text, value=float(value))
    for name, text, path in _GAUGES:
        if (value := _at(stats, path)) is not None:
            yield GaugeMetricFamily(name, text, value=float(value))
    yield from _of_the_file(stats)
    yield from _by_label(stats)
    for name, text, path in _HISTOGRAMS:
        if (value := _at(stats, path)) is not None:
            family = HistogramMetricFamily(name, text)
            family.add_metric([], _buckets(value), value["sum"])
            yield family


_INFO: Final = ("version", "database", "socket")
_STATES: Final = ("starting", "migrating", "serving", "stopping")
_INDEX_STATES: Final = ("healthy", "degraded", "rebuilding")


def _of_the_file(stats: Stats) -> Iterator[Metric]:
    pages = stats.get("pages")
    if pages:
        size = pages["page_size"]
        for name, text, count in (
            ("sessiond_database_bytes", "bytes of the database", pages["page_count"]),
            ("sessiond_database_free_bytes", "bytes in it that are free", pages["free_pages"]),
        ):
            yield GaugeMetricFamily(name, text, value=float(size * count))
    index = stats.get("index")
    if index:
        family = GaugeMetricFamily(
            "sessiond_index_state", "1 for the search index's state", labels=["state"]
        )
        for name in _INDEX_STATES:
            family.add_metric([name], float(index["state"] == name))
        yield family


def _by_label(stats: Stats) -> Iterator[Metric]:
    writer = stats.get("writer", {})
    writes = CounterMetricFamily(
        "sessiond_writes", "writes by what became of them", labels=["outcome"]
    )
    for outcome, count in writer.get("requests", {}).items():
        writes.add_metric([outcome], count)
    yield writes
    checkpoints = CounterMetricFamily(
        "sessiond_checkpoints", "checkpoints by what came of them", labels=["mode", "result"]
    )
    for mode, results in (_at(stats, ("checkpoints", "results")) or {}).items():
        for result, count in results.items():
            checkpoints.add_metric([mode, result], count)
    yield checkpoints
    yield from _of_jobs(stats)
    requests = HistogramMetricFamily(
        "sessiond_request_seconds",
        "time from a request's arrival to its answer",
        labels=["method"],
    )
    for method, histogram in {
        **writer.get("request_seconds", {}),
        **stats.get("reads", {}),
    }.items():
        requests.add_metric([method], _buckets(histogram), histogram["sum"])
    yield requests


def _of_jobs(stats: Stats) -> Iterator[Metric]:
    running = GaugeMetricFamily("sessiond_jobs_running", "long work that goes on now")
    if "jobs" in stats:
        running.add_metric([], sum(job["state"] == "running" for job in stats["jobs"]))
    yield running
    finished = CounterMetricFamily(
        "sessiond_jobs_finished", "long work that has ended", labels=["kind", "state"]
    )
    for kind, counts in stats.get("jobs_finished", {}).items():
        for state, count in counts.items():
            finished.add_metric([kind, state], count)
    yield finished


def _buckets(histogram: Stats) -> list[tuple[str, float]]:
    """Prometheus counts in each bucket all values up to its end."""
    ends = [*map(str, map(float, histogram["bounds"])), "+Inf"]
    counts, below = [], 0
    for count in histogram["buckets"]:
        below += count
        counts.append(below)
    return list(zip(ends, map(float, counts), strict=True))


def _at(stats: Stats, path: Path) -> Any:
    found: Any = stats
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found
