"""What a daemon's statistics say of its health, in words: the same for all who show it."""

from collections.abc import Iterator, Mapping
from typing import Any


def troubles(stats: Mapping[str, Any]) -> Iterator[str]:
    """What is not as it should be in what ``server.stats`` answers, worst first."""
    if stats.get("state") != "serving":
        yield f"the daemon is {stats.get('state')}"
    if stats.get("writable") is False:
        yield f"writes are refused: {stats.get('reason')}"
    missing = stats.get("schema", {}).get("missing")
    if missing:
        yield f"the schema lacks {', '.join(map(str, missing))}"
    index = stats.get("index", {})
    if index.get("state", "healthy") != "healthy":
        yield _index_trouble(index)
    log = stats.get("log", {})
    if log.get("failure"):
        yield f"checkpoints fail: {log['failure']}"
    if log.get("pinned"):
        yield "a reader keeps the write-ahead log from being emptied"
    if stats.get("guarded") is False:
        yield "the files are not guarded against other programs that would delete them"


def _index_trouble(index: Mapping[str, Any]) -> str:
    text = f"the search index is {index['state']}"
    if index.get("reason"):
        text += f": {index['reason']}"
    rebuild = index.get("rebuild")
    if rebuild and rebuild.get("total"):
        text += f", {100 * rebuild['done'] / rebuild['total']:.0f} % done"
    return text
