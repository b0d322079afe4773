"""The line that the service manager shows."""

from typing import Any

import pytest

from sessiond.status_line import status_line

STATS: dict[str, Any] = {
    "state": "serving",
    "database": "/x/state.db",
    "connections": 1,
    "write_count": 12_345,
    "pending_writes": 0,
    "writable": True,
}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "serving /x/state.db: 1 client, 12,345 writes since the start"),
        (
            {"connections": 2, "write_count": 1, "pending_writes": 1500},
            "serving /x/state.db: 2 clients, 1 write since the start, 1,500 waiting",
        ),
        (
            {"writable": False, "reason": "why"},
            "serving /x/state.db: 1 client, 12,345 writes since the start; writes are refused: why",
        ),
        ({"state": "stopping"}, "/x/state.db: the daemon is stopping"),
    ],
)
def test_the_line(change: dict[str, Any], line: str) -> None:
    assert status_line({**STATS, **change}) == line
