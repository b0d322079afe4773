"""Housekeeping between batches: what is done, in which order, and how much of it at a time."""

import logging
from collections.abc import Callable
from typing import Any, Final

import apsw

from sessiond.database import UnsafeFile
from sessiond.job import BUSY_SHARE
from sessiond.sqlite.access import WriteAccess
from sessiond.sqlite.checkpoint import Checkpoints
from sessiond.sqlite.damage import NEXT, FileDamaged, IndexDamaged, damage_of
from sessiond.sqlite.forgetting import Forgetting
from sessiond.sqlite.judge import Mode
from sessiond.sqlite.mending import Mending
from sessiond.sqlite.merging import Merging
from sessiond.sqlite.migrations import Plan, migrate
from sessiond.sqlite.optimizing import Optimizing
from sessiond.sqlite.rebuild import Rebuild, SchemaMoved
from sessiond.sqlite.refusal import OpenRefused
from sessiond.sqlite.releasing import Releasing
from sessiond.sqlite.retention import Retention

log = logging.getLogger("sessiond.care")

_RETRY_SECONDS: Final = 10.0
# While there is other work, somebody waits for what a look between two batches delays.
_BETWEEN_TURNS: Final = 0.05
_MOST_DAMAGES: Final = 4  # one after the other, before taking a break


class Care:
    """One slice of housekeeping per turn. Only the writer thread uses it."""

    def __init__(
        self,
        access: WriteAccess,
        clock: Callable[[], float],
        checkpoints: Checkpoints,
        rebuild: Rebuild,
        mending: Mending,
        merging: Merging,
        forgetting: Forgetting,
        retention: Retention,
    ) -> None:
        self._access = access
        self._clock = clock
        self._checkpoints = checkpoints
        self._rebuild = rebuild
        self._mending = mending
        self._merging = merging
        self._forgetting = forgetting
        self._retention = retention
        self._optimizing = Optimizing(access, clock)
        self._releasing = Releasing(access, clock)
        self._last_turn = self._not_before = float("-inf")
        self._failed_until = float("-inf")
        self._damages = 0
        self._repair_after = float("-inf")
        self._foreign = access.foreign_commits

    def turn(self, idle: bool) -> bool:
        """What is most urgent; True if something could go on at once.

        Raises :class:`FileDamaged` and :class:`UnsafeFile`.
        """
        started = self._clock()
        if not (idle or started >= self._last_turn + _BETWEEN_TURNS or self._checkpoints.due):
            return False
        self._last_turn = started
        try:
            self._access.look()
            self._notice()
            self._checkpoints.step(idle)
            if started < self._failed_until or (not idle and started < self._not_before):
                return False
            more = self._work(idle)
        except UnsafeFile:
            raise
        except (apsw.BusyError, SchemaMoved):
            return False  # another program is at work
        except (apsw.Error, IndexDamaged, FileDamaged) as error:
            return self._failed(error)
        self._damages = 0
        ended = self._clock()
        if more:
            self._not_before = ended + BUSY_SHARE * (ended - started)
        return more

    def _notice(self) -> None:
        if self._foreign != self._access.foreign_commits:
            self._foreign = self._access.foreign_commits
            self._checkpoints.foreign_commit()

    def _work(self, idle: bool) -> bool:
        access = self._access
        if access.watch.refusal is not None:
            return self._repair()
        if access.health.text != access.meta.committed.index_state:
            with access.working():
                return True
        return (
            self._repair()
            or self._rebuild.step()
            or self._mending.step()
            or self._forgetting.step()
            or self._retain()
            or (
                idle and (self._merging.step() or self._optimizing.step() or self._releasing.step())
            )
        )

    def _retain(self) -> bool:
        before = self._retention.deleted
        more = self._retention.step()
        if self._retention.deleted > before:
            self._merging.written()
        return more

    def snapshot(self) -> dict[str, Any]:
        """What was done between batches, as plain values. Any thread may ask."""
        return {
            "optimize": self._optimizing.snapshot(),
            "retention": self._retention.snapshot(),
            "merges": self._merging.steps,
            "mended": self._mending.mended,
            "rebuilds": self._rebuild.rebuilds,
            "forgotten_channels": self._forgetting.forgotten,
        }

    def _failed(self, error: Exception) -> bool:
        damage = damage_of(error)
        if isinstance(damage, FileDamaged):
            raise damage from error
        if isinstance(damage, IndexDamaged):
            log.warning("a search index is damaged: %s", damage)
            self.index_damaged(damage)
            self._damages += 1
            if self._damages < _MOST_DAMAGES:
                return True
        self._failed_until = self._clock() + _RETRY_SECONDS
        log.warning("housekeeping failed and is tried again later: %s", error)
        return False

    def index_damaged(self, damage: IndexDamaged) -> None:
        """An index was found damaged; the transaction was rolled back."""
        self._access.index_damaged(damage)
        if damage.index == NEXT:
            self._rebuild.abandon()

    # --- putting back ------------------------------------------------------------------------

    def _repair(self) -> bool:
        """Put back what another program has removed, when it is done with whatever it does."""
        access = self._access
        verdict = access.watch.verdict
        gone = verdict.missing_sides or (
            not verdict.index_is_followed
            and not self._rebuild.filling
            and (verdict.mode is Mode.INDEX_MISSING or access.may_rebuild_words)
        )
        now = self._clock()
        if (
            not gone
            or verdict.missing_columns
            or verdict.missing_tables
            or not access.watch.settled
            or now < self._repair_after
        ):
            return False
        self._repair_after = now + _RETRY_SECONDS
        version = verdict.version or 0
        try:
            migrate(access.connection, Plan(version, version, ("complete",), False, 0.0))
        except OpenRefused as refused:
            log.warning("what is missing cannot be put back: %s", refused)
            return False
        access.reload()
        log.warning("what another program had removed is back: the search index or side tables")
        return True
