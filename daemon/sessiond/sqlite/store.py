"""The session database on SQLite: batches in, outcomes out."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from sessiond.database import Applied, Greeting, UnsafeFile
from sessiond.sqlite.batch import Batch
from sessiond.sqlite.receipts import Channels
from sessiond.sqlite.search_index import SearchIndex
from sessiond.sqlite.transaction import EndedTransaction, IndexDamaged, Run, RunAgain
from sessiond.work import Fate, Outcome, Work, refusal
from sessiond_protocol.errors import Code
from sessiond_protocol.requests.server import ServerHello

CrashPoint = Callable[[str], None]


class LockTimeout(Exception):  # noqa: N818
    """Another program held the write lock until the deadline."""


class Store:
    """One database file through its only write connection. Only the writer thread uses it.

    ``crash_point`` is called with a name at every step whose interruption must be harmless;
    tests end the process there.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        lock_timeout: float,
        wait_turn: Callable[[float], bool] = lambda _: True,
        check_files: Callable[[], str | None] = lambda: None,
        crash_point: CrashPoint = lambda _: None,
    ) -> None:
        self.connection = connection
        self._lock_timeout = lock_timeout
        self._wait_turn = wait_turn
        self._check_files = check_files
        self._crash_point = crash_point
        self._channels = Channels(connection)
        self._index = SearchIndex()
        self.generation: bytes = self._read("SELECT generation FROM sessiond_meta")
        self.commits: int = self._read("SELECT commits FROM sessiond_meta")

    def _read(self, sql: str) -> Any:
        return self.connection.execute(sql).fetchall()[0][0]

    # --- batches ---------------------------------------------------------------------------

    def apply(self, works: Sequence[Work]) -> Applied:
        """Apply a batch in one transaction; see :meth:`sessiond.database.Database.apply`."""
        started = time.monotonic()
        begun = started
        careful = False
        left_out: dict[int, Outcome] = {}
        for runs in range(1, 5):
            try:
                self._begin()
            except LockTimeout as error:
                return self._refused(works, Code.DATABASE, str(error), runs, started)
            begun = time.monotonic()
            batch = Batch(self.connection, self._index)
            try:
                run = Run(batch, self._channels.get, careful=careful, left_out=left_out)
                outcomes = run.apply(works)
                self._finish(batch)
            except RunAgain:
                careful = True
            except EndedTransaction as ended:
                left_out[ended.index] = ended.outcome
            except IndexDamaged as damage:
                self._index_damaged(damage)
            except apsw.Error as error:
                return self._failed_batch(error, works, runs, started)
            else:
                return self._commit(batch, outcomes, runs, started, begun)
            self._rollback()
            self._crash_point("between runs")
        return self._refused(works, Code.DATABASE, "the batch failed in every run", runs, started)

    def _begin(self) -> None:
        """Take the write lock, waiting with jitter for a foreign holder, up to a deadline."""
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                self._check()
                return
            except apsw.BusyError as error:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._wait_turn(remaining):
                    raise LockTimeout(
                        "another program holds the database's write lock"
                        f" for more than {self._lock_timeout:g} s"
                    ) from error

    def _check(self) -> None:
        """Before anything is written and before anybody is answered: is it still our file?"""
        alarm = self._check_files()
        if alarm is not None:
            raise UnsafeFile(alarm)

    def _finish(self, batch: Batch) -> None:
        batch.finish()
        self._crash_point("before receipts")
        self._channels.write(batch.runs.items(), time.time())
        self.connection.execute("UPDATE sessiond_meta SET commits = commits + 1")
        self._crash_point("before commit")

    def _commit(
        self, batch: Batch, outcomes: list[Outcome], runs: int, started: float, begun: float
    ) -> Applied:
        applied = time.monotonic()
        try:
            self.connection.execute("COMMIT")
        except apsw.FullError:
            # The commit frame is written last, so nothing of this batch can come back.
            self._rollback()
            works = [refusal(Code.DISK_FULL, "the disk is full; nothing was stored")] * len(
                outcomes
            )
            return Applied(works, [], 0, runs, begun - started, applied - begun, 0.0)
        except apsw.Error as error:
            raise UnsafeFile(f"the fate of a commit is unknown: {error}") from error
        committed = time.monotonic()
        self._check()
        self.commits += 1
        self._crash_point("after commit")
        self._channels.absorb(batch.runs.items())
        return Applied(
            outcomes,
            batch.events,
            batch.last_message_id,
            runs,
            begun - started,
            applied - begun,
            committed - applied,
        )

    def _rollback(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def _failed_batch(
        self, error: apsw.Error, works: Sequence[Work], runs: int, started: float
    ) -> Applied:
        """The batch's own statements failed: no request is the culprit, all are refused."""
        self._rollback()
        if isinstance(error, apsw.FullError):
            return self._refused(
                works, Code.DISK_FULL, "the disk is full; nothing was stored", runs, started
            )
        return self._refused(works, Code.DATABASE, str(error), runs, started)

    def _refused(
        self, works: Sequence[Work], code: Code, message: str, runs: int, started: float
    ) -> Applied:
        spent = time.monotonic() - started
        outcomes = [
            refusal(code, message) if work.failure is None else _own_failure(work) for work in works
        ]
        return Applied(outcomes, [], 0, runs, spent, 0.0, 0.0)

    def _index_damaged(self, damage: IndexDamaged) -> None:
        raise UnsafeFile(str(damage))

    # --- channels --------------------------------------------------------------------------

    def greet(self, hello: ServerHello) -> Greeting:
        """The state of a channel, as of the last commit."""
        if hello.client_id is None:
            return Greeting(False, 0, self.generation)
        channel = self._channels.get(hello.client_id)
        return Greeting(channel.known, channel.last, self.generation)

    def status(self, client_id: bytes, seq: int) -> str:
        """What became of a number."""
        return self._channels.get(client_id).status(seq)

    # --- care ------------------------------------------------------------------------------

    def care(self, idle: bool) -> bool:
        """Move committed pages into the database, without waiting for anyone."""
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        return False

    def health(self) -> dict[str, Any]:
        """States and figures."""
        return {"generation": self.generation.hex()}

    def close(self) -> None:
        """Checkpoint what can be moved, then close."""
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self.connection.close()


def _own_failure(work: Work) -> Outcome:
    assert work.failure is not None
    return Outcome(Fate.FAILED, error=work.failure.wire())
