"""Merging the indexes' parts while nobody writes.

FTS5 merges as it goes (``automerge`` stays at its default, since a daemon under steady load is
never idle); what is left then is merged in small steps. Never ``optimize``: it rewrites the whole
index in one statement.
"""

from collections.abc import Callable
from typing import Final

from sessiond.sqlite.access import WriteAccess
from sessiond.sqlite.damage import PAIRS, WORDS, on_index, write_out
from sessiond.sqlite.judge import Mode

# Somebody who writes, thinks a moment and writes again is not idle.
QUIET_SECONDS: Final = 1.0
_PAGES: Final = 64
_NOTHING_DONE: Final = 2  # changes; fewer mean that there was nothing to merge


class Merging:
    """Small steps over both indexes after writes, until nothing is left to merge."""

    def __init__(self, access: WriteAccess, clock: Callable[[], float]) -> None:
        self._access = access
        self._clock = clock
        self._written_at: float | None = None
        self._left: list[str] = []
        self.steps = 0

    def written(self) -> None:
        """A batch was committed."""
        self._written_at = self._clock()

    def step(self) -> bool:
        """One step if it has been quiet for a while; True if there is more."""
        if self._written_at is not None:
            if self._clock() - self._written_at < QUIET_SECONDS:
                return False
            self._written_at = None
            self._left = [WORDS, PAIRS]
        while self._left:
            if self._mergeable(self._left[-1]) and self._merge(self._left[-1]):
                return True
            self._left.pop()
        return False

    def _mergeable(self, index: str) -> bool:
        access = self._access
        if index == PAIRS:
            return not access.health.pairs
        return not access.health.words and access.watch.verdict.mode is Mode.OURS

    def _merge(self, index: str) -> bool:
        with self._access.working() as connection:
            before = connection.total_changes()
            with on_index(index):
                connection.execute(
                    f"INSERT INTO {index} ({index}, rank) VALUES ('merge', ?)", (_PAGES,)
                )
                done = connection.total_changes() - before
                write_out(connection, index)
        self.steps += 1
        return done >= _NOTHING_DONE
