"""Statistics as Prometheus reads them."""

from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from sessiond_protocol.metrics import render

HISTOGRAM = {"bounds": [0.1, 1.0], "buckets": [2, 3, 1], "sum": 9.5, "count": 6,
             "max": 5.0, "p50": 1.0, "p99": 5.0}  # fmt: skip
STATS: dict[str, Any] = {
    "version": "1.2.3",
    "state": "serving",
    "database": '/x/"odd"\\name\n.db',
    "socket": "/s",
    "connections": 3,
    "writable": False,
    "writer": {
        "batches": 7,
        "requests": {"applied": 40, "refused": 2},
        "commit_seconds": HISTOGRAM,
        "request_seconds": {"message.append": HISTOGRAM},
    },
    "reads": {"session.get": HISTOGRAM},
    "checkpoints": {"results": {"passive": {"complete": 5}}, "seconds": HISTOGRAM, "age": None},
    "log": {"bytes": 4096, "pinned": True},
    "readers": {"count": 2, "oldest": {"process": "pid 5", "pid": 5, "frame": 17}},
    "pages": {"page_size": 4096, "page_count": 10, "free_pages": 2},
    "index": {"state": "degraded"},
    "jobs": [{"kind": "check", "state": "running"}, {"kind": "backup", "state": "done"}],
    "jobs_finished": {"backup": {"done": 3, "failed": 1}},
    "last_backup": 1.5e9,
}


def parsed(stats: dict[str, Any]) -> dict[str, Metric]:
    """Every family by its name, as Prometheus's own parser finds it."""
    return {each.name: each for each in text_string_to_metric_families(render(stats).decode())}


def samples(stats: dict[str, Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parsed(stats).values()
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("sessiond_connections", (), 3),
        ("sessiond_writable", (), 0),
        ("sessiond_batches_total", (), 7),
        ("sessiond_writes_total", (("outcome", "applied"),), 40),
        ("sessiond_writes_total", (("outcome", "refused"),), 2),
        ("sessiond_state", (("state", "serving"),), 1),
        ("sessiond_state", (("state", "stopping"),), 0),
        ("sessiond_index_state", (("state", "degraded"),), 1),
        ("sessiond_log_bytes", (), 4096),
        ("sessiond_jobs_running", (), 1),
        ("sessiond_jobs_finished_total", (("kind", "backup"), ("state", "failed")), 1),
        ("sessiond_backup_timestamp_seconds", (), 1.5e9),
        ("sessiond_log_pinned", (), 1),
        ("sessiond_log_readers", (), 2),
        ("sessiond_log_oldest_reader_page", (), 17),
        ("sessiond_database_bytes", (), 40_960),
        ("sessiond_database_free_bytes", (), 8192),
        ("sessiond_checkpoints_total", (("mode", "passive"), ("result", "complete")), 5),
        (
            "sessiond_info",
            (("database", STATS["database"]), ("socket", "/s"), ("version", "1.2.3")),
            1,
        ),
    ],
)
def test_figures(name: str, labels: tuple[tuple[str, str], ...], value: float) -> None:
    assert samples(STATS)[name, labels] == value


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("sessiond_commit_seconds", ()),
        ("sessiond_request_seconds", (("method", "message.append"),)),
        ("sessiond_request_seconds", (("method", "session.get"),)),
    ],
)
def test_a_bucket_counts_everything_up_to_its_end(
    name: str, labels: tuple[tuple[str, str], ...]
) -> None:
    found = samples(STATS)
    for end, count in (("0.1", 2), ("1.0", 5), ("+Inf", 6)):
        assert found[f"{name}_bucket", tuple(sorted((*labels, ("le", end))))] == count
    assert found[f"{name}_count", labels] == 6
    assert found[f"{name}_sum", labels] == 9.5


def test_every_metric_says_what_it_is() -> None:
    for family in parsed(STATS).values():
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name


def test_while_the_file_is_being_opened_the_rest_is_there() -> None:
    found = parsed({"state": "migrating", "connections": 1})
    assert found["sessiond_connections"].samples[0].value == 1
    assert "sessiond_log_bytes" not in found
    assert "sessiond_checkpoint_age_seconds" not in parsed(STATS)
