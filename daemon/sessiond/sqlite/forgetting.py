"""Forgetting channels that nobody will take up again, in small steps between batches.

What may go is :mod:`sessiond_protocol.expiry`'s to say. Here is kept what it asks for: since when
this daemon has been up without a connection of a channel, on a clock that a suspended machine
does not stop and nobody sets.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from sessiond.sqlite.access import WriteAccess
from sessiond.sqlite.receipts import Channels
from sessiond_protocol.expiry import MIN_UNCONNECTED_SECONDS, Row, expired, makes_room

log = logging.getLogger("sessiond.forgetting")

ROUND_SECONDS: Final = 60.0
_SLICE_ROWS: Final = 500
_ROOM: Final = 100  # how many go at once when there is no room: not one for each newcomer

# A connection may be open for days and write nothing: so often its row says that it is in use.
_FRESH_SECONDS: Final = 3_600.0


def uptime() -> float:
    """Seconds since the machine was started, suspension included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Forgetting:
    """Goes through the stored channels once a minute. Only the writer thread uses it.

    ``connected`` says which channels have a connection now; it may be asked from any thread.
    """

    def __init__(
        self,
        access: WriteAccess,
        channels: Channels,
        connected: Callable[[], Collection[bytes]],
        clock: Callable[[], float] = uptime,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._channels = channels
        self._connected = connected
        self._clock = clock
        self._wall = wall
        self._started = clock()
        self._used: dict[bytes, float] = {}  # uptime when a channel was last known to be in use
        self._before: frozenset[bytes] = frozenset()
        self._cursor: bytes | None = None
        self._next_round = self._started
        self.forgotten = 0

    def step(self) -> bool:
        """One slice of a round, if it is time for one; True if there is more."""
        now = self._clock()
        if self._cursor is None:
            if self._channels.crowded:
                self._channels.crowded = False
                self._look(now)
                self._make_room(now)
            if now < self._next_round:
                return False
            self._next_round = now + ROUND_SECONDS
            self._cursor = b""
        self._look(now)
        self._slice(now, self._cursor)
        return self._cursor is not None

    def _look(self, now: float) -> None:
        """Note who is in use, and who was since the last look: both were not absent till now."""
        connected = frozenset(self._connected())
        for client_id in connected | self._before | self._channels.touched:
            self._used[client_id] = now
        self._before = connected
        self._channels.touched.clear()

    def _row(self, client_id: bytes, last_seen: float, now: float) -> Row:
        if client_id in self._before:
            return Row(client_id, last_seen, None)
        return Row(client_id, last_seen, now - self._used.get(client_id, self._started))

    def _slice(self, now: float, cursor: bytes) -> None:
        wall = self._wall()
        found = self._channels.ages(cursor, _SLICE_ROWS)
        rows = [self._row(client_id, last_seen, now) for client_id, last_seen in found]
        stale = [
            row.client_id
            for row in rows
            if row.unconnected is None and abs(wall - row.last_seen) > _FRESH_SECONDS
        ]
        self._change(expired(rows, wall), stale, wall)
        if len(found) == _SLICE_ROWS:
            self._cursor = found[-1][0]
        else:
            self._cursor = None
            self._end_round(now)

    def _change(self, gone: list[bytes], stale: list[bytes], wall: float) -> None:
        if not gone and not stale:
            return
        with self._access.working():
            self._channels.remove(gone)
            self._channels.seen(stale, wall)
        for client_id in gone:
            self._channels.forget(client_id)
            self._used.pop(client_id, None)
        self.forgotten += len(gone)

    def _end_round(self, now: float) -> None:
        """Memory is for those who are here, and for when the others were, as long as it counts."""
        self._channels.keep_only(self._before)
        # Without an entry a channel counts as absent since the start of this daemon.
        proven = now - MIN_UNCONNECTED_SECONDS
        self._used = {each: used for each, used in self._used.items() if used > proven}

    def _make_room(self, now: float) -> None:
        excess = self._channels.count() - self._channels.max_rows + _ROOM
        found = self._channels.ages(b"", self._channels.max_rows + _ROOM)
        gone = makes_room([self._row(client_id, seen, now) for client_id, seen in found], excess)
        if gone:
            log.warning(
                "%d channels were forgotten before their time: there is room for %d",
                len(gone),
                self._channels.max_rows,
            )
        self._change(gone, [], self._wall())
