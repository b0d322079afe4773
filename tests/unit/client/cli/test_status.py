"""What ``sessionctl status`` says of a daemon's statistics."""

import os
from typing import Any

import pytest

from sessiond_client.cli.commands import status

HEALTHY: dict[str, Any] = {
    "state": "serving",
    "writable": True,
    "reason": None,
    "guarded": True,
    "schema": {"mode": "ours", "version": 6, "missing": []},
    "index": {"state": "healthy", "reason": "", "rebuild": None},
    "log": {"pinned": False, "failure": None},
}


def test_health_is_good() -> None:
    assert list(status.troubles(HEALTHY)) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"state": "stopping"}, "the daemon is stopping"),
        ({"writable": False, "reason": "why"}, "writes are refused: why"),
        ({"schema": {"missing": ["a.b", "c"]}}, "the schema lacks a.b, c"),
        (
            {"index": {"state": "degraded", "reason": "why"}},
            "the search index is degraded: why",
        ),
        (
            {"index": {"state": "rebuilding", "rebuild": {"done": 5, "total": 20}}},
            "the search index is rebuilding, 25 % done",
        ),
        ({"log": {"failure": "why"}}, "checkpoints fail: why"),
        (
            {"log": {"pinned": True}},
            "a reader keeps the write-ahead log from being emptied",
        ),
        (
            {"guarded": False},
            "the files are not guarded against other programs that would delete them",
        ),
    ],
)
def test_troubles_are_named(change: dict[str, Any], text: str) -> None:
    assert list(status.troubles({**HEALTHY, **change})) == [text]


def test_a_daemon_that_is_just_starting_has_no_store_to_speak_of() -> None:
    assert list(status.troubles({"state": "starting"})) == ["the daemon is starting"]


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
