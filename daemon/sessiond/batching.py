"""When a transaction stops waiting for company. Pure: no time, no thread.

An idle daemon adds no delay: a lone writer's request is committed at once. While several
connections are writing, waiting a moment for those that took part in the last batch lets one
fsync pay for all of them (the idea of PostgreSQL's ``commit_delay`` and ``commit_siblings``).
"""

import msgspec


class BatchLimits(msgspec.Struct, frozen=True):
    """What bounds a batch: requests, bytes, seconds of waiting, and from how many on to wait."""

    max_requests: int
    max_bytes: int
    max_delay: float
    siblings: int


class BatchRule:
    """Remembers how many connections took part in the last batches."""

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self._active = 0.0

    def expected(self, waiting_requests: int, waiting_writers: int) -> int:
        """How many connections are worth waiting for; no more than are here means: go."""
        if waiting_requests >= self.limits.max_requests or self.limits.max_delay <= 0:
            return waiting_writers
        expected = int(self._active + 0.5)
        return expected if expected >= self.limits.siblings else waiting_writers

    def closed(self, writers: int) -> None:
        """A batch with requests of this many connections was closed."""
        self._active += (writers - self._active) / 4
