"""Keeping the statistics current by which SQLite chooses among indexes.

``PRAGMA optimize`` looks at what this connection has asked and at how tables have grown, and
analyses what needs it; a limit on the rows of each index bounds that to milliseconds.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from sessiond.sqlite.access import WriteAccess

INTERVAL: Final = 3_600.0
MANY_COMMITS: Final = 10_000
_LEAST_SECONDS: Final = 300.0  # between two runs, however many commits there are
_ANALYSIS_LIMIT: Final = 400  # rows of each index


class Optimizing:
    """Runs it while nobody writes: hourly, or after many commits. Only the writer uses it."""

    def __init__(
        self,
        access: WriteAccess,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._clock = clock
        self._wall = wall
        self._ran = clock()
        self._commits = access.meta.committed.commits
        self.runs = 0
        self.last_at: float | None = None

    def step(self) -> bool:
        """Run it if it is time for it. False: there is never more to do at once."""
        now = self._clock()
        commits = self._access.meta.committed.commits - self._commits
        wait = _LEAST_SECONDS if commits >= MANY_COMMITS else INTERVAL
        if commits <= 0 or now - self._ran < wait:
            return False
        self._ran = now  # also if it fails: the next try is not at once
        with self._access.working() as connection:
            connection.execute(f"PRAGMA analysis_limit = {_ANALYSIS_LIMIT}")
            connection.execute("PRAGMA optimize").fetchall()
        # The tables for the statistics may be new: a change of the schema, but of our own.
        self._access.watch.own_change()
        self._commits = self._access.meta.committed.commits
        self.runs += 1
        self.last_at = self._wall()
        return False

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain values; ``last`` is when it ran, Unix time, None: not yet."""
        return {"runs": self.runs, "last": self.last_at}
