"""The session database on SQLite: batches in, outcomes out."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final

import apsw

from sessiond.database import Applied, Greeting
from sessiond.sqlite.access import CrashPoint, WriteAccess
from sessiond.sqlite.ask import rows
from sessiond.sqlite.batch import Batch
from sessiond.sqlite.care import Care
from sessiond.sqlite.checkpoint import CheckpointLimits, Checkpoints
from sessiond.sqlite.damage import PAIRS, WORDS, FileDamaged, IndexDamaged, damage_of
from sessiond.sqlite.forgetting import Forgetting
from sessiond.sqlite.insertion import Insertions
from sessiond.sqlite.mending import Mending
from sessiond.sqlite.merging import Merging
from sessiond.sqlite.rebuild import ONE_TRANSACTION, Rebuild
from sessiond.sqlite.receipts import Channels
from sessiond.sqlite.retention import Retention, Rule
from sessiond.sqlite.search_index import index_for
from sessiond.sqlite.sizes import Sizes
from sessiond.sqlite.transaction import EndedTransaction, Run, RunAgain, refuse_batch
from sessiond.work import Entry, Outcome, one_by_one, refusal
from sessiond_protocol.errors import Code
from sessiond_protocol.requests.feed import Event
from sessiond_protocol.requests.server import ServerHello

log = logging.getLogger("sessiond.store")

# Without savepoints, with them, without the culprit, and once more for each index found damaged.
_MOST_RUNS: Final = 6
_DISK_FULL: Final = "the disk is full; nothing was stored"
_HIGHEST_ID: Final = 2**63 - 1
_LAST_ID: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'messages'"


class LockTimeout(Exception):
    """Another program held the write lock until the deadline."""


class Store:
    """One database file through its only write connection. Only the writer thread uses it.

    ``lock_timeout``: seconds to wait for another program's write lock; ``lock_holder`` names
    that program, None if it cannot be seen; ``wait_turn`` gets the seconds left, waits a
    moment, and returns False to give up. ``check_files`` is asked inside every transaction and
    after every commit what is wrong with the files, None if nothing is. ``crash_point`` is
    called with a name at every step whose interruption must be harmless; tests end the process
    there. ``clock`` is monotonic, in seconds. For the rest see :class:`Rebuild`,
    :class:`Checkpoints` and :class:`Retention`.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        lock_timeout: float,
        wait_turn: Callable[[float], bool] = lambda _: True,
        check_files: Callable[[], str | None] = lambda: None,
        crash_point: CrashPoint = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        limits: CheckpointLimits | None = None,
        rebuild_at_once: int = ONE_TRANSACTION,
        beat: Callable[[], None] = lambda: None,
        holders: Callable[[], Sequence[object]] = lambda: (),
        lock_holder: Callable[[], object | None] = lambda: None,
        connected: Callable[[], Collection[bytes]] = frozenset,
        retention: Callable[[], Rule] = Rule,
        deleted: Callable[[list[Event]], None] = lambda _events: None,
    ) -> None:
        self.connection = connection
        self.path = connection.filename
        self.beat = beat
        self.lock_timeout = lock_timeout
        self._wait_turn = wait_turn
        self._lock_holder = lock_holder
        self._crash_point = crash_point
        self._clock = clock
        self._channels = Channels(connection)
        self.checkpoints = Checkpoints(connection, clock, limits or CheckpointLimits(), holders)
        self.access = access = WriteAccess(
            connection,
            clock=clock,
            check_files=check_files,
            crash_point=crash_point,
        )
        self._rebuild = Rebuild(access, clock, one_transaction=rebuild_at_once, beat=beat)
        self._mending = Mending(access, clock)
        self._merging = Merging(access, clock)
        self._care = Care(
            access,
            clock,
            self.checkpoints,
            self._rebuild,
            self._mending,
            self._merging,
            Forgetting(access, self._channels, connected),
            Retention(
                access,
                clock,
                rule=retention,
                next_cursor=lambda: self._rebuild.next_cursor,
                deleted=deleted,
            ),
        )
        self._insertions = Insertions(connection)
        self._stopped: str | None = None
        self.restored: Callable[[bytes, int], None] = lambda _generation, _last_id: None
        self._sizes = Sizes(connection, clock)

    @property
    def generation(self) -> bytes:
        """16 bytes that differ after the file's history changed behind the clients."""
        return self.access.meta.committed.generation

    @property
    def commits(self) -> int:
        """How many transactions were committed in this file, ever."""
        return self.access.meta.committed.commits

    @property
    def foreign_commits(self) -> int:
        """Rises when another program's commit was noticed."""
        return self.access.foreign_commits

    def look(self) -> None:
        """Notice another program's commits now. One that has just the lock is met by a batch."""
        with suppress(apsw.BusyError):
            self.access.look()

    # --- batches ---------------------------------------------------------------------------

    def apply(self, works: Sequence[Entry]) -> Applied:
        """Apply a batch in one transaction; see :meth:`sessiond.database.Database.apply`."""
        started = time.monotonic()
        careful = False
        left_out: dict[int, Outcome] = {}
        for runs in range(1, _MOST_RUNS + 1):
            if self._stopped is not None:
                return self._refused(works, Code.DATABASE, self._stopped, runs, started)
            try:
                self._begin()
                begun = time.monotonic()
                if self.access.watch.refusal is not None:
                    return self._not_now(works, runs, started)
                return self._run(works, careful, left_out, runs, started, begun)
            except LockTimeout as timeout:
                return self._refused(works, Code.DATABASE, str(timeout), runs, started)
            except RunAgain:
                careful = True
            except EndedTransaction as ended:
                if left_out:
                    # A second one: it is not this request, it is the disk.
                    self.access.rollback()
                    return self._refused_like(ended.outcome, works, runs, started)
                left_out[ended.index] = ended.outcome
            except (apsw.Error, IndexDamaged, FileDamaged) as error:
                damage = damage_of(error)
                if damage is None:
                    return self._failed_batch(error, works, runs, started)
                self._damaged(damage)
            self.access.rollback()
            self._crash_point("between runs")
        return self._refused(works, Code.DATABASE, "the batch failed in every run", runs, started)

    def _begin(self) -> None:
        """Take the write lock, waiting with jitter for a foreign holder, up to a deadline."""
        deadline = time.monotonic() + self.lock_timeout
        while True:
            try:
                self.access.begin()
                return
            except apsw.BusyError as error:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._wait_turn(remaining):
                    holder = self._lock_holder()
                    raise LockTimeout(
                        "another program holds the database's write lock"
                        f" for more than {self.lock_timeout:g} s{f' ({holder})' if holder else ''}"
                    ) from error

    def _run(
        self,
        works: Sequence[Entry],
        careful: bool,
        left_out: dict[int, Outcome],
        runs: int,
        started: float,
        begun: float,
    ) -> Applied:
        insertion = self._insertions.take(self.access.foreign_commits)
        index = index_for(self.access, self._rebuild.next_cursor)
        batch = Batch(self.connection, index, None if careful else insertion)
        run = Run(batch, self._channels.get, careful=careful, left_out=left_out)
        decided, outcomes = run.apply(works)
        batch.finish()
        self._crash_point("before receipts")
        self._channels.write(batch.runs.items(), time.time())
        applied, worked = time.monotonic(), time.thread_time()
        self.access.commit()
        committed, worked = time.monotonic(), time.thread_time() - worked
        self._channels.absorb(batch.runs.items())
        if not careful:
            self._insertions.give_back(insertion)
        self._merging.written()
        return Applied(
            decided,
            self._told_apart(outcomes),
            batch.events,
            batch.last_message_id,
            runs,
            begun - started,
            applied - begun,
            committed - applied,
            max(0.0, committed - applied - worked),
        )

    def _told_apart(self, outcomes: list[Outcome]) -> list[Outcome]:
        """SQLite says that the disk is full also when there is no message id left."""
        full = [
            index
            for index, outcome in enumerate(outcomes)
            if outcome.error is not None and outcome.error[0] == Code.DISK_FULL
        ]
        if full and rows(self.connection, _LAST_ID) == [(_HIGHEST_ID,)]:
            for index in full:
                outcomes[index] = refusal(Code.DATABASE, "no message id is left above 2**63 - 1")
        return outcomes

    def _not_now(self, works: Sequence[Entry], runs: int, started: float) -> Applied:
        reason = self.access.watch.refusal or ""
        self.access.rollback()
        return self._refused(works, Code.DATABASE, reason, runs, started)

    def _failed_batch(
        self, error: BaseException, works: Sequence[Entry], runs: int, started: float
    ) -> Applied:
        """The batch's own statements failed: no request is the culprit, all are refused."""
        self.access.rollback()
        if isinstance(error, apsw.FullError):
            return self._refused(works, Code.DISK_FULL, _DISK_FULL, runs, started)
        return self._refused(works, Code.DATABASE, str(error), runs, started)

    def _refused_like(
        self, outcome: Outcome, works: Sequence[Entry], runs: int, started: float
    ) -> Applied:
        code, message, _ = outcome.error or (Code.DATABASE.value, "the batch failed", None)
        if code not in (Code.DISK_FULL, Code.DATABASE):
            code = Code.DATABASE.value
        return self._refused(works, Code(code), message, runs, started)

    def _refused(
        self, works: Sequence[Entry], code: Code, message: str, runs: int, started: float
    ) -> Applied:
        spent = time.monotonic() - started
        single = one_by_one(works)
        outcomes = refuse_batch(single, self._channels.readable, code, message)
        return Applied(single, outcomes, [], 0, runs, spent, 0.0, 0.0)

    def _damaged(self, damage: IndexDamaged | FileDamaged) -> None:
        if isinstance(damage, IndexDamaged):
            log.warning("a search index is damaged: %s; messages are stored without it", damage)
            self._care.index_damaged(self.access.attributed(damage))
        else:
            self._stop_writing(damage)

    def _stop_writing(self, damage: FileDamaged) -> None:
        self._stopped = (
            f"the database file is damaged ({damage}): nothing is written any more, reading goes on"
        )
        log.critical("%s", self._stopped)

    # --- channels --------------------------------------------------------------------------

    def greet(self, hello: ServerHello) -> Greeting:
        """The state of a channel, as of the last commit.

        Raises :class:`Failure` with ``overloaded`` for a new one when there is no room for it.
        """
        if hello.client_id is None:
            return Greeting(False, 0, self.generation)
        channel = self._channels.admit(hello.client_id)
        return Greeting(channel.known, channel.last, self.generation)

    def status(self, client_id: bytes, seq: int) -> str:
        """What became of a number."""
        return self._channels.readable(client_id).status(seq)

    # --- care ------------------------------------------------------------------------------

    def care(self, idle: bool) -> bool:
        """A slice of housekeeping; True if there is more that can be done at once."""
        if self._stopped is not None:
            return False
        try:
            more = self._care.turn(idle)
            self._sizes.look()
        except FileDamaged as damage:
            self._stop_writing(damage)
            return False
        return more

    def reload(self) -> None:
        """Forget everything known of the file: something else than batches has changed it."""
        self._channels.clear()
        self._insertions.forget()
        self._rebuild.abandon()
        self.access.reload()

    def replaced(self) -> None:
        """Another history was put into the file's place: nothing known of the one before holds."""
        self._stopped = None
        self._rebuild.begin_again()
        self._mending.begin_again()
        self.reload()

    def index_unreadable(self, text: str) -> None:
        """A search found an index damaged: have it made anew, or both if ``text`` names none."""
        named = [index for index in (WORDS, PAIRS) if index in text]
        log.warning("a search index is damaged: %s; it is made anew", text)
        for index in named or (WORDS, PAIRS):
            self._care.index_damaged(IndexDamaged(index, text))

    def rebuild_index(self) -> bool:
        """Have both indexes made anew by the next turns of :meth:`care`.

        False if ``messages_fts`` is another program's, whose index is not touched.
        """
        access = self.access
        access.health.pairs = access.health.pairs or "pair index to be filled anew"
        if not access.may_rebuild_words:
            return False
        access.health.words = access.health.words or "a rebuild was asked for"
        return True

    def health(self) -> dict[str, Any]:
        """States and figures. Reads no file, so any thread may ask."""
        access, checkpoints = self.access, self.checkpoints
        reason = self._stopped or access.watch.refusal
        rebuild, index_state = self._rebuild.progress(), access.health.text
        return {
            "generation": self.generation.hex(),
            "commits": access.meta.committed.commits,
            "foreign_commits": access.foreign_commits,
            "writable": reason is None,
            "reason": reason,
            "schema": {
                "mode": access.watch.verdict.mode.value,
                "version": access.watch.verdict.version,
                "missing": [
                    *access.watch.verdict.missing_columns,
                    *access.watch.verdict.missing_tables,
                ],
            },
            "index": {
                "state": "healthy" if not index_state else "rebuilding" if rebuild else "degraded",
                "reason": index_state,
                "rebuild": rebuild,
                "rebuilds": self._rebuild.rebuilds,
                "pairs_cursor": access.meta.committed.cjk_cursor,
                "pairs_behind": self._mending.behind,
                "passes": self._mending.passes,
                "mended": self._mending.mended,
                "merges": self._merging.steps,
            },
            "log": {
                "pages": checkpoints.pages,
                "bytes": checkpoints.bytes,
                "pinned": checkpoints.pinned,
                "pinned_by": list(checkpoints.pinned_by),
                "failure": checkpoints.failure,
            },
            "checkpoint": {
                "busy": checkpoints.last.busy,
                "log": checkpoints.last.log,
                "checkpointed": checkpoints.last.checkpointed,
            },
            "checkpoints": checkpoints.counts.snapshot(self._clock()),
            "pages": dict(self._sizes.pages),
            "care": self._care.snapshot(),
        }

    def close(self) -> None:
        """Empty the log if no reader holds it, then close."""
        self.checkpoints.close()
        self.connection.close()
