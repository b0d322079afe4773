"""From a path to a store and back: lock, open, migrate, start commit, guard, say so."""

import logging
import random
import time
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

import apsw

from sessiond.database import UnsafeFile
from sessiond.job import JobWork
from sessiond.sqlite import files, opening, pragmas
from sessiond.sqlite.access import CrashPoint
from sessiond.sqlite.checkpoint import CheckpointLimits
from sessiond.sqlite.file_locks import describe
from sessiond.sqlite.guard import Guard, Held, refuse_stray_log
from sessiond.sqlite.jobs import job_work
from sessiond.sqlite.judge import look
from sessiond.sqlite.location import checked_path
from sessiond.sqlite.log_users import Role
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond.sqlite.retention import Rule
from sessiond.sqlite.store import Store
from sessiond.sqlite.taking import take_daemon_lock
from sessiond.state_file import Announcement
from sessiond_protocol import paths, state_file
from sessiond_protocol.requests.feed import Event
from sessiond_protocol.requests.job import JobStart
from sessiond_protocol.state_file import State, StateFile

log = logging.getLogger("sessiond.keeper")

Progress = Callable[[str, float], None]

T = TypeVar("T")

_EMPTY_LOG_MS: Final = 5_000
_TELL_SECONDS: Final = 1.0


class Keeper:
    """Holds one database file for one daemon, from the lock to the last close.

    ``crash_point`` is called with a name at every step whose interruption must be harmless;
    tests end the process there. Set before :meth:`open`: ``connected``, the channels that have
    a connection; ``deleted``, which is told on the writer's thread what retention deleted.
    ``retention`` may be set at any time.
    """

    def __init__(
        self,
        path: str,
        *,
        durability: str,
        cache_bytes: int,
        lock_timeout: float,
        start_timeout: float,
        allow_network_fs: bool,
        checkpoints: CheckpointLimits | None = None,
        crash_point: CrashPoint = lambda _: None,
    ) -> None:
        self.path = checked_path(path, allow_network_fs=allow_network_fs)
        self._durability = durability
        self._cache_bytes = cache_bytes
        self._lock_timeout = lock_timeout
        self._start_timeout = start_timeout
        self._allow_network_fs = allow_network_fs
        self._checkpoints = checkpoints
        self._crash_point = crash_point
        self._guard = Guard(self.path)
        self._before: StateFile | None = None
        self._store: Store | None = None
        self._announcement = Announcement(self.path)
        self._leaving = False
        self.connected: Callable[[], Collection[bytes]] = frozenset
        self.retention = Rule()
        self.deleted: Callable[[list[Event]], None] = lambda _events: None
        self._beat: Callable[[], None] = lambda: None

    # --- the lock --------------------------------------------------------------------------

    def take(self) -> None:
        """Become this file's daemon. Raises :class:`~sessiond.sqlite.taking.AlreadyServed`.

        A daemon that serves is named at once; one that starts or leaves is waited for.
        """
        take_daemon_lock(self._guard, self._start_timeout)
        before = state_file.read(paths.state_file(self.path))
        if before is not None:
            refuse_stray_log(self.path, before.stray_log)
        self._before = self._announcement.take_over()

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the file that was locked."""
        found = self._guard.identity
        return found.device, found.inode

    # --- opening ---------------------------------------------------------------------------

    def open(
        self,
        migrating: Callable[[float], None],
        progress: Progress = lambda _step, _fraction: None,
        beat: Callable[[], None] = lambda: None,
    ) -> Store:
        """The store, ready for its first batch.

        ``migrating`` is told once how many seconds a migration may take, ``progress`` then its
        steps and the fraction done, again and again. ``beat`` is called during every wait for
        another program, now and later. Raises :class:`OpenRefused`, and :class:`UnsafeFile`
        after which nothing may be closed.
        """
        self._beat = beat
        found_log = files.size(f"{self.path}-wal") > 0
        connection = self._patiently(
            lambda: opening.open_database(
                self.path,
                cache_kib=self._cache_bytes // 1024,
                allow_network_fs=self._allow_network_fs,
            )
        )
        upgrade = opening.Upgrade(
            connection, lambda plan: migrating(plan.seconds), progress, self._crash_point
        )
        self._patiently(upgrade.attempt)
        known = self._before.commits if self._before is not None else None
        self._crash_point("before start commit")
        start = self._start_commit(connection, known)
        self._crash_point("after start commit")
        if start.renewed:
            log.info("the database has a new generation, %s", start.generation.hex())
        if found_log:
            self._empty_log(connection)
        pragmas.set_durability(connection, full=self._durability == "full")
        with opening.refusing(self.path):
            pragmas.set_triggers(connection, look(connection).mode)
        self._patiently(self._guard.protect)
        with opening.refusing(self.path):
            self._store = self._make_store(connection)
        return self._store

    def _make_store(self, connection: apsw.Connection) -> Store:
        return Store(
            connection,
            lock_timeout=self._lock_timeout,
            wait_turn=self._wait_turn,
            check_files=self._guard.alarm,
            crash_point=self._crash_point,
            limits=self._checkpoints,
            beat=self._beat,
            holders=self._guard.readers,
            connected=self.connected,
            lock_holder=self._guard.writer,
            retention=lambda: self.retention,
            deleted=self.deleted,
        )

    def _start_commit(self, connection: apsw.Connection, known: int | None) -> opening.Start:
        try:
            with opening.refusing(self.path):
                return self._patiently(lambda: opening.start_commit(connection, known))
        except OpenRefused as refused:
            if refused.reason is Reason.IO:
                raise UnsafeFile(f"the fate of the first commit is unknown: {refused}") from refused
            raise

    def _empty_log(self, connection: apsw.Connection) -> None:
        """Move what the life before left in the log into the database, and begin a new log.

        If a sync of the log failed then, some of its pages may count as written that never
        were: reading finds them in the cache, but no later sync would bring them to the disk.
        """
        connection.set_busy_timeout(_EMPTY_LOG_MS)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.FullError) as error:
            log.warning("%s-wal cannot be emptied at the start: %s", self.path, error)
        except apsw.Error:
            with opening.refusing(self.path):
                raise
        finally:
            connection.set_busy_timeout(0)

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Do something that another program's lock may hold up, until the deadline.

        Who holds it is logged once, when that has lasted for a moment.
        """
        started = time.monotonic()
        told = False
        while True:
            try:
                return attempt()
            except (apsw.BusyError, Held) as error:
                waited = time.monotonic() - started
                if waited > self._lock_timeout:
                    raise OpenRefused(
                        Reason.NO_ACCESS,
                        f"{self.path} is held by {self._guard.blocker()}"
                        f" for more than {self._lock_timeout:g} s: {error}",
                    ) from error
                if not told and waited >= _TELL_SECONDS:
                    told = True
                    log.warning(
                        "%s is held by %s, which is waited for, up to %g s",
                        self.path,
                        self._guard.blocker(),
                        self._lock_timeout,
                    )
                self._wait_turn(self._lock_timeout - waited)

    def _wait_turn(self, remaining: float) -> bool:
        """Wait a little for a lock; False when there is no point in waiting longer."""
        time.sleep(min(random.uniform(0.001, 0.02), max(0.0, remaining)))
        self._beat()
        return not self._leaving

    def job_work(self, request: JobStart) -> JobWork:
        """What a request for long work does with the store, on a thread of its own."""
        assert self._store is not None
        return job_work(self._store, request)

    # --- what is said of it ----------------------------------------------------------------

    def serving(self, socket: str) -> None:
        """Say where clients find the daemon."""
        self._announcement.say(state=State.SERVING, socket=socket, **self._figures())

    def migrating(self, socket: str) -> None:
        """Say that the file is being migrated, and where clients are told how long."""
        self._announcement.say(state=State.MIGRATING, socket=socket)

    def stopping(self) -> None:
        """Say that the daemon leaves."""
        self._announcement.say(state=State.STOPPING)

    def stopped_early(self) -> None:
        """Say that the daemon left before it served."""
        self._announcement.say(state=State.STOPPED)

    def failed(self, why: str) -> None:
        """Say why the daemon could not serve."""
        self._announcement.say(state=State.FAILED, message=why)

    def _figures(self) -> dict[str, Any]:
        if self._store is None:
            return {}
        return {"generation": self._store.generation.hex(), "commits": self._store.commits}

    def health(self) -> dict[str, Any]:
        """States and figures of the store and of the files."""
        store = self._store.health() if self._store is not None else {}
        return {**store, "readers": self._readers(), "guarded": self._guard.guarded}

    def _readers(self) -> dict[str, Any]:
        """Who reads through the log at this moment, our own included."""
        found = [each for each in self._guard.lock_holders() if each.role is Role.READER]
        oldest = min(found, key=lambda each: each.frame or 0, default=None)
        return {
            "count": len(found),
            "oldest": None
            if oldest is None
            else {"process": describe(oldest.pid), "pid": oldest.pid, "frame": oldest.frame},
        }

    # --- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Checkpoint, close, and say what was left. The lock goes with the process."""
        self._leaving = True
        if self._store is not None:
            figures = self._figures()
            self._store.close()
            left = files.size(f"{self.path}-wal")
            note = (
                f"{self.path}-wal holds {left} bytes that belong to the database:"
                " move or copy both together"
                if left
                else ""
            )
            if note:
                log.warning("%s", note)
            self._announcement.say(state=State.STOPPED, message=note, **figures)

    def abandon(self, why: str) -> None:
        """After an alarm: save an orphaned log, say why; close nothing."""
        saved = self._guard.save_orphaned_log(time.strftime("%Y%m%d-%H%M%S"))
        message = f"{why}; its log was saved as {saved}" if saved else why
        log.critical("%s", message)
        self._announcement.say(
            state=State.FAILED,
            message=message,
            stray_log=self._guard.stray_log(),
            **self._figures(),
        )
