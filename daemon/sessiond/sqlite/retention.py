"""Deleting old sessions by age and source, in slices between batches.

Which sessions may go is the rule of ``session.prune_slice``: those that have ended and were
started before a moment. A round goes through them upwards from the oldest, a window of rows at a
time, so that a file full of sessions that stay is never read in one go.
"""

import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final

import apsw
import msgspec

from sessiond.sqlite.access import WriteAccess
from sessiond.sqlite.ask import rows
from sessiond.sqlite.batch import Batch
from sessiond.sqlite.damage import IndexDamaged, damage_of
from sessiond.sqlite.handlers.sessions import delete_rows
from sessiond.sqlite.search_index import index_for
from sessiond.sqlite.slices import HIGHEST
from sessiond_protocol.requests.feed import Event

log = logging.getLogger("sessiond.retention")

DAY: Final = 86_400.0
ROUND_SECONDS: Final = 600.0
SLICE_SESSIONS: Final = 200

# Deleting; the index and the commit come on top, and a slice shall hold up nobody for over 20 ms.
SLICE_SECONDS: Final = 0.01
_SLICE_MESSAGES: Final = 2_000
_WINDOW: Final = 500

_MAY_GO: Final = (
    "ended_at IS NOT NULL AND started_at < ?1"
    " AND (?2 IS NULL OR source IN (SELECT value FROM json_each(?2)))"
)
# Rows of one time come in descending order: that is the index on it, read backwards.
_LOOK: Final = (
    f"SELECT started_at, rowid, {_MAY_GO} FROM sessions"
    " WHERE started_at < ?1 AND started_at >= ?3 AND (started_at > ?3 OR rowid < ?4)"
    " ORDER BY started_at, rowid DESC LIMIT ?5"
)
# As bytes: another program may have stored an id that is no text, which nobody can name.
_STILL: Final = (
    f"SELECT CAST(id AS BLOB) FROM sessions WHERE rowid = ?3 AND typeof(id) = 'text' AND {_MAY_GO}"
)


class Rule(msgspec.Struct, frozen=True):
    """Sessions started over ``days`` ago go once they have ended; 0: none goes.

    ``sources`` are those whose sessions may go; empty: all.
    """

    days: float = 0.0
    sources: tuple[str, ...] = ()


class Retention:
    """Carries out the rule, in rounds. Only the writer thread uses it.

    ``rule`` is asked before every slice and may answer differently each time; ``deleted`` is
    told of every committed slice. ``wall`` is Unix time, ``stopwatch`` measures a slice.
    """

    def __init__(
        self,
        access: WriteAccess,
        clock: Callable[[], float],
        *,
        rule: Callable[[], Rule],
        next_cursor: Callable[[], int | None],
        deleted: Callable[[list[Event]], None],
        wall: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._access = access
        self._clock = clock
        self._rule = rule
        self._next_cursor = next_cursor
        self._tell = deleted
        self._wall = wall
        self._stopwatch = stopwatch
        self._current = Rule()
        self._cursor: tuple[float, int] | None = None  # None between rounds
        self._before = 0.0
        self._next_round = float("-inf")
        self._in_round = 0
        self.deleted = 0
        self.rounds = 0
        self.last_at: float | None = None

    def step(self) -> bool:
        """One slice of a round, if it is time for one; True if there is more."""
        rule = self._rule()
        if rule != self._current:
            self._current, self._cursor, self._next_round = rule, None, float("-inf")
        if not rule.days or (self._cursor is None and self._clock() < self._next_round):
            return False
        if self._cursor is None:
            self._before, self._in_round = self._wall() - rule.days * DAY, 0
            self._cursor = float("-inf"), HIGHEST
        self._slice(self._cursor)
        return self._cursor is not None

    def _slice(self, cursor: tuple[float, int]) -> None:
        sources = json.dumps(self._current.sources) if self._current.sources else None
        asked = (self._before, sources)
        found = rows(self._access.connection, _LOOK, (*asked, *cursor, _WINDOW))
        doomed = [place for place, (_, _, may_go) in enumerate(found) if may_go]
        seen = len(found)
        if doomed:
            done = self._delete([found[place][1] for place in doomed], asked)
            seen = doomed[done] if done < len(doomed) else seen
        if seen == len(found) < _WINDOW:
            self._end_round()
        elif seen:
            self._cursor = found[seen - 1][:2]

    def _delete(self, doomed: list[int], asked: tuple[float, str | None]) -> int:
        """Delete the first of these rows in one transaction; how many were gone through."""
        started = self._stopwatch()
        done = messages = 0
        try:
            with self._access.working() as connection:
                batch = Batch(connection, index_for(self._access, self._next_cursor()))
                for row in doomed[:SLICE_SESSIONS]:
                    messages += self._delete_row(batch, row, asked)
                    done += 1
                    spent = self._stopwatch() - started
                    if messages >= _SLICE_MESSAGES or spent >= SLICE_SECONDS:
                        break
                batch.finish()
        except (apsw.Error, IndexDamaged) as error:
            damage = damage_of(error)
            if isinstance(damage, IndexDamaged):
                raise self._access.attributed(damage) from error
            raise
        if batch.events:
            self.deleted += len(batch.events)
            self._in_round += len(batch.events)
            self.last_at = self._wall()
            self._tell(batch.events)
        return done

    def _delete_row(self, batch: Batch, row: int, asked: tuple[float, str | None]) -> int:
        """Delete a session, its number of messages; what was seen before may hold no more."""
        still = batch.row(_STILL, (*asked, row))
        try:
            return delete_rows(batch, still[0].decode()) if still is not None else 0
        except UnicodeDecodeError:
            return 0

    def _end_round(self) -> None:
        self._cursor = None
        self.rounds += 1
        self._next_round = self._clock() + ROUND_SECONDS
        if self._in_round:
            log.info("deleted %d sessions older than %g days", self._in_round, self._current.days)

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain values; ``last`` is when it deleted last, Unix time, or None."""
        rule = self._rule()
        return {
            "days": rule.days,
            "sources": list(rule.sources),
            "deleted": self.deleted,
            "rounds": self.rounds,
            "last": self.last_at,
        }
