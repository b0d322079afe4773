"""Moving committed pages from the log into the database, between batches and by the writer alone.

A commit never checkpoints: its caller would wait for it. PASSIVE waits for nobody. TRUNCATE
stops all writes while it waits for readers, so it gets a little time, seldom, and only when the
log has outgrown its limit.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import msgspec

from sessiond.database import CheckpointResult
from sessiond.sqlite.ask import rows, value
from sessiond.stats import SECONDS, Histogram

log = logging.getLogger("sessiond.checkpoint")

_FRAME_HEADER: Final = 24
LOG_HEADER: Final = 32
# A page that is written again and again is moved once for each checkpoint: the fewer, the better,
# as long as the log stays far below its limit and is soon read after a crash.
_DUE_PAGES: Final = 1_000
_MOST_DUE_PAGES: Final = 4_000
_CLOSE_MS: Final = 1_000
_WARN_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 1.0
_TRUNCATE_MS: Final = 50
_TRUNCATE_SECONDS: Final = 1.0
_PATIENT_MS: Final = 250
_PATIENT_SECONDS: Final = 5.0


class CheckpointLimits(msgspec.Struct, frozen=True):
    """Bytes of log: from ``soft`` on TRUNCATE is tried, over ``hard`` people are told."""

    soft: int = 64 << 20
    hard: int = 1 << 30


class CheckpointCounts:
    """What became of the checkpoints so far.

    ``results`` are counts by mode and by result: ``complete``, ``partial`` where a reader held
    up the rest, ``failed``.
    """

    def __init__(self) -> None:
        self.results: dict[str, dict[str, int]] = {
            mode: dict.fromkeys(("complete", "partial", "failed"), 0)
            for mode in ("passive", "truncate")
        }
        self.times = Histogram(SECONDS)
        self.last_at: float | None = None

    def add(self, mode: str, result: str, started: float, ended: float) -> None:
        """Count one."""
        self.results[mode.lower()][result] += 1
        self.times.add(ended - started)
        self.last_at = ended

    def snapshot(self, now: float) -> dict[str, Any]:
        """Everything, as plain values; ``age`` is seconds since the last one, None if none."""
        return {
            "results": {mode: dict(counts) for mode, counts in self.results.items()},
            "seconds": self.times.snapshot(),
            "age": None if self.last_at is None else now - self.last_at,
        }


class Checkpoints:
    """Decides when to checkpoint, and does it. Only the writer thread uses it.

    ``holders`` names who keeps the log from being emptied, where that is known; it is asked
    once a minute while the log is pinned.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        clock: Callable[[], float],
        limits: CheckpointLimits,
        holders: Callable[[], Sequence[object]] = lambda: (),
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._limits = limits
        self.holders = holders
        self._page_size: int = value(connection, "PRAGMA page_size")
        quarter = limits.soft // (4 * self._page_size)
        self._due_pages: int = max(_DUE_PAGES, min(quarter, _MOST_DUE_PAGES))
        self.last = CheckpointResult()
        self.pages = 0  # in the log, as of the last commit or checkpoint
        self.pinned = False
        self.pinned_by: tuple[str, ...] = ()
        self.failure: str | None = None
        self.counts = CheckpointCounts()
        self._tried_pages = 0
        self._tried_at = self._truncated_at = self._patient_at = self._warned_at = float("-inf")
        self._unknown = True  # there may be pages of another program's commits
        # A log that begins again overwrites its old file, which is longer: a sync then writes
        # pages and no block map, in half the time and with a third less work for the kernel.
        # What is longer than the limit is cut off at that moment.
        connection.execute(f"PRAGMA journal_size_limit={limits.soft}").fetchall()
        connection.set_wal_hook(self._committed)

    def _committed(self, _connection: Any, _name: str, pages: int) -> int:
        if pages < self.pages:  # the log began again at its start
            self.last = CheckpointResult(self.last.busy, pages, 0)
            self._tried_pages = 0
        self.pages = pages
        return apsw.SQLITE_OK

    @property
    def bytes(self) -> int:
        """What the pages of the log take."""
        return LOG_HEADER + self.pages * (self._page_size + _FRAME_HEADER) if self.pages else 0

    def foreign_commit(self) -> None:
        """Another program committed: how long the log is now is not known."""
        self._unknown = True

    @property
    def due(self) -> bool:
        """Whether the log is so long that something should be done even while others wait."""
        return self._must_move or self.bytes > self._limits.soft

    @property
    def _must_move(self) -> bool:
        grown = self.pages - self._tried_pages
        return grown >= self._due_pages <= self.pages - self.last.checkpointed

    def step(self, idle: bool) -> None:
        """Checkpoint if it is time for it; raises what SQLite raises for a damaged file."""
        now = self._clock()
        if self._due(idle, now):
            self._tried_at, self._tried_pages = now, self.pages
            self._checkpoint("PASSIVE", 0)
            self._tried_pages = self.pages
        if self.bytes > self._limits.soft:
            self._shrink(now)
        self._watch(now)

    def _due(self, idle: bool, now: float) -> bool:
        if not idle:
            return self._must_move
        again = self.pages > self._tried_pages or now - self._tried_at >= _AGAIN_SECONDS
        return self._unknown or (self.pages > self.last.checkpointed and again)

    def _shrink(self, now: float) -> None:
        """Try TRUNCATE: a little every second, longer but seldom when the log is far too long."""
        if now - self._truncated_at < _TRUNCATE_SECONDS:
            return
        # Behind a reader of an old state it waits in vain, except that past a multiple of the
        # limit even a small chance is worth the time. Once the reader has let go, the short
        # tries come every second however long the log has become.
        near = self.pages - self.last.checkpointed < _DUE_PAGES
        far = self.bytes > 4 * self._limits.soft
        patient = far and now - self._patient_at >= _PATIENT_SECONDS
        if near or patient:
            self._truncated_at = now
            if patient:
                self._patient_at = now
            self._checkpoint("TRUNCATE", _PATIENT_MS if patient else _TRUNCATE_MS)

    def _watch(self, now: float) -> None:
        self.pinned = self.bytes > self._limits.hard
        if not self.pinned:
            self.pinned_by = ()
        elif now - self._warned_at >= _WARN_SECONDS:
            self._warned_at = now
            self.pinned_by = tuple(map(str, self.holders()))
            log.warning(
                "log pinned: %d bytes of log cannot be emptied, the limit is %d; a reader holds"
                " an old state (%s)",
                self.bytes,
                self._limits.hard,
                ", ".join(self.pinned_by) or "unknown which",
            )

    def truncate(self) -> CheckpointResult:
        """Empty the log now, because somebody asks for it; ``failure`` says what went wrong."""
        self._checkpoint("TRUNCATE", _PATIENT_MS)
        return self.last

    def _checkpoint(self, mode: str, milliseconds: int) -> None:
        connection = self._connection
        started = self._clock()
        connection.set_busy_timeout(milliseconds)
        try:
            busy, pages, moved = rows(connection, f"PRAGMA wal_checkpoint({mode})")[0]
        except (apsw.CorruptError, apsw.NotADBError):
            raise
        except apsw.Error as error:
            # Nothing is lost: the log keeps what was not moved, and the next try begins anew.
            if self.failure is None:
                log.warning("checkpoint failed: %s", error)
            self.failure = str(error)
            self.last = CheckpointResult(True, self.last.log, self.last.checkpointed)
            self.counts.add(mode, "failed", started, self._clock())
            return
        finally:
            connection.set_busy_timeout(0)
        self.failure, self._unknown = None, False
        if pages >= 0:
            self.last = CheckpointResult(bool(busy), pages, moved)
            self.pages = pages
        result = "complete" if moved >= pages and not busy else "partial"
        self.counts.add(mode, result, started, self._clock())

    def close(self) -> bool:
        """Empty the log, waiting for readers for a second; False if it could not be."""
        try:
            self._checkpoint("TRUNCATE", _CLOSE_MS)
        except apsw.Error as error:
            self.failure = str(error)
        if self.failure is None and not self.last.busy:
            return True
        log.warning(
            "the log could not be emptied (%s): %s-wal belongs to the database and must move"
            " with it",
            self.failure or "a reader holds it",
            self._connection.filename,
        )
        return False
