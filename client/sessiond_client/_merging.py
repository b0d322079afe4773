"""Joining small token increments into one request before they are sent. No time, no I/O.

Two increments of one session become one if the session ends up as it would have after both:
counters and costs add up; ``model`` and the billing fields are filled in only while unset, so the
first one given wins; the cost's status, source and pricing version overwrite, so the last one
given wins. Anything else that is written to the session closes the merge.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from sessiond_protocol.content import MAX_INTEGER, MIN_INTEGER
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.session import SessionUpdateTokens

COUNTERS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
COSTS: Final = ("estimated_cost_usd", "actual_cost_usd")
ROUTE: Final = ("model", "billing_provider", "billing_base_url", "billing_mode")
LAST_WINS: Final = ("cost_status", "cost_source", "pricing_version")

# How many sessions may have a merge at a time; one more sends them all.
MAX_SESSIONS: Final = 1024


def merged(first: SessionUpdateTokens, second: SessionUpdateTokens) -> SessionUpdateTokens | None:
    """Both increments of one session as one; None if they must stay two.

    They must if one of them sets the counters, if they went another route (two different models
    or billing fields), or if a sum would not fit in a column.
    """
    if first.absolute or second.absolute:
        return None
    joined: dict[str, Any] = {}
    for name in ROUTE:
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours is not None and theirs is not None and ours != theirs:
            return None
        joined[name] = theirs if ours is None else ours
    for name in COUNTERS:
        total = getattr(first, name) + getattr(second, name)
        if not MIN_INTEGER <= total <= MAX_INTEGER:
            return None
        joined[name] = total
    for name in COSTS:
        joined[name] = _sum(getattr(first, name), getattr(second, name))
    for name in LAST_WINS:
        given = getattr(second, name)
        joined[name] = getattr(first, name) if given is None else given
    return msgspec.structs.replace(first, **joined)


def _sum(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return first if second is None else second
    return first + second


class Merges:
    """The increments that wait to be sent, at most one per session, in the order they came."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[str, SessionUpdateTokens] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, increment: SessionUpdateTokens) -> list[SessionUpdateTokens]:
        """Keep an increment; what has to be sent now, before it."""
        earlier = self._waiting.get(increment.session_id)
        joined = increment if earlier is None else merged(earlier, increment)
        if joined is not None:
            due = self.take() if earlier is None and len(self) >= MAX_SESSIONS else []
            self._waiting[increment.session_id] = joined
            return due
        assert earlier is not None
        self._waiting[increment.session_id] = increment
        return [earlier]

    def before(self, write: Request[Any]) -> list[SessionUpdateTokens]:
        """What has to be sent before another write: the merges of the sessions it touches."""
        if not self._waiting:
            return []
        session_id = getattr(write, "session_id", None)
        if session_id is None:
            return self.take()
        touched = (session_id, getattr(write, "parent_session_id", None))
        return self._take(each for each in touched if each in self._waiting)

    def take(self) -> list[SessionUpdateTokens]:
        """Everything that waits."""
        taken = list(self._waiting.values())
        self._waiting.clear()
        return taken

    def _take(self, sessions: Iterable[str]) -> list[SessionUpdateTokens]:
        return [self._waiting.pop(each) for each in list(dict.fromkeys(sessions))]
