"""What is said of a daemon's health."""

from typing import Any

import pytest

from sessiond_protocol.health import troubles

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
    assert list(troubles(HEALTHY)) == []


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
    assert list(troubles({**HEALTHY, **change})) == [text]


def test_a_daemon_that_is_just_starting_has_no_store_to_speak_of() -> None:
    assert list(troubles({"state": "starting"})) == ["the daemon is starting"]
