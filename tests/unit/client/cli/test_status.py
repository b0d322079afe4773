"""What ``sessionctl status`` says of a daemon's statistics."""

import os
from typing import Any

import pytest

from sessiond_client.cli.commands import status


@pytest.mark.parametrize(
    ("last", "text"),
    [
        (None, "none was needed yet"),
        ({"busy": False, "log": 0, "checkpointed": 0}, "none was needed yet"),
        ({"busy": False, "log": 1, "checkpointed": 1}, "1 of 1 page moved"),
        (
            {"busy": True, "log": 2000, "checkpointed": 7},
            "7 of 2,000 pages moved, a reader holds up the rest",
        ),
    ],
)
def test_the_last_checkpoint(last: Any, text: str) -> None:
    assert status.checkpoint(last) == text


def test_how_old_the_last_checkpoint_is() -> None:
    last = {"busy": True, "log": 3, "checkpointed": 2}
    assert status.checkpoint(last, 75.0) == (
        "2 of 3 pages moved 1 min 15 s ago, a reader holds up the rest"
    )
    assert status.age({"checkpoints": {"age": 75}}) == 75.0
    assert status.age({}) is None


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "none"),
        ({"count": 0, "oldest": None}, "none"),
        (
            {"count": 2, "oldest": {"process": "pid 7 (cat)", "pid": 7, "frame": 1200}},
            "2, the oldest pid 7 (cat) at page 1,200 of the log",
        ),
        (
            {"count": 1, "oldest": {"process": "pid 7", "pid": 7, "frame": None}},
            "1, the oldest pid 7",
        ),
    ],
)
def test_the_oldest_reader(found: Any, text: str) -> None:
    assert status.readers(found) == text


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "not known yet"),
        ({"state": "healthy", "pairs_behind": 0}, "healthy"),
        ({"state": "degraded", "pairs_behind": 1500}, "degraded, 1,500 messages behind"),
    ],
)
def test_the_index(found: Any, text: str) -> None:
    assert status.index(found) == text


def care(deleted: int = 0, days: float = 0, *sources: str, **ran: Any) -> dict[str, Any]:
    retention = {"days": days, "sources": sources, "deleted": deleted, "last": ran.get("pruned")}
    return {"retention": retention, "optimize": {"last": ran.get("optimized")},
            "merges": ran.get("merges", 0)}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "none yet"),
        (care(), "old sessions are kept"),
        (
            care(optimized=880.0, merges=2),
            "statistics updated 2 min ago; 2 merges; old sessions are kept",
        ),
        (care(0, 0.5), "deleted 0 sessions older than 0.5 days"),
        (
            care(1, 30, "cli", "web", pruned=400.0),
            "deleted 1 session older than 30 days of cli, web, the last 10 min ago",
        ),
    ],
)
def test_care(found: Any, text: str) -> None:
    assert status.care(found, 1000.0) == text


def test_a_client_whose_process_is_unknown() -> None:
    client = {
        "pid": None, "uid": 2**31 - 7, "program": "", "since": 0.0, "requests": 1234, "pending": 0,
    }  # fmt: skip
    assert status.client_row(client, 5.0) == ("?", str(2**31 - 7), "?", "just now", "1,234", "0")


def test_users_have_names() -> None:
    assert status.user_name(0) == "root"
    assert status.user_name(None) == "?"


def test_sizes_of_files_that_are_not_there(tmp_path: Any) -> None:
    (tmp_path / "a").write_bytes(b"123")
    assert status.file_sizes(os.fspath(tmp_path / "a")) == {"database_bytes": 3, "log_bytes": None}
