"""What the service manager shows of the daemon: one line for people."""

from collections.abc import Mapping
from typing import Any

from sessiond_protocol.health import troubles


def status_line(stats: Mapping[str, Any]) -> str:
    """What ``server.stats`` answers, as ``systemctl status`` shows it."""
    path = stats["database"]
    found = "; ".join(troubles(stats))
    if stats["state"] != "serving":
        return f"{path}: {found}"
    parts = [
        _plural(stats["connections"], "client"),
        f"{_plural(stats['write_count'], 'write')} since the start",
    ]
    if stats["pending_writes"]:
        parts.append(f"{stats['pending_writes']:,} waiting")
    line = f"serving {path}: {', '.join(parts)}"
    return f"{line}; {found}" if found else line


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
