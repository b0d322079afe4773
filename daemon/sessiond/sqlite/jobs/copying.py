"""A copy of the database while it is in use, made between the batches."""

import os
import time
from collections.abc import Callable
from typing import Final

import apsw
import msgspec

from sessiond.job import Cancelled, Job
from sessiond.sqlite import files
from sessiond.sqlite.ask import rows, size_in_bytes
from sessiond.sqlite.backup import Copy
from sessiond.sqlite.store import Store
from sessiond_protocol.errors import Code, Failure

Say = Callable[[str, float], None]

SLICE_SECONDS: Final = 0.01
PAGES: Final = 64
_SYNC_BYTES: Final = 64 << 20
MOST_RESTARTS: Final = 3
_STANDSTILL_SECONDS: Final = 0.05

# What tells whether a copy is that of the moment.
STATE: Final = "SELECT (SELECT commits FROM sessiond_meta), (SELECT max(id) FROM messages)"


class Copied(msgspec.Struct, frozen=True):
    """What a finished copy must hold, and how often it was begun again."""

    commits: int
    last_id: int | None
    restarts: int


def needed_bytes(job: Job, store: Store) -> int:
    """What a copy of the database takes now."""
    return job.between_batches(lambda: size_in_bytes(store.connection)) + files.SPARE_BYTES


def check_room(needed: int, folder: str, what: str) -> None:
    """Raise :class:`Failure` if a folder's file system has no room for so many bytes."""
    free = files.free_bytes(folder)
    if free < needed:
        raise Failure(
            Code.DISK_FULL, f"{what} needs {needed} bytes in {folder}, {free} are free there"
        )


def copy_online(job: Job, store: Store, target: str, say: Say) -> Copied:
    """Copy the database into a new file, which is complete and synced afterwards.

    The daemon's own commits go on meanwhile and are in the copy. Those of another program start
    it anew; when that has happened a few times, a snapshot is copied instead, which nobody can
    disturb, but which keeps the write-ahead log from being emptied for as long. Whoever calls
    removes the file of a copy that failed.
    """
    copy = job.between_batches(lambda: Copy(store.connection, target))
    slices = _Slices(store, copy)
    try:
        _follow(job, store, slices, target, say)
    finally:
        let_go(job, copy)
    if slices.state is None:
        os.unlink(target)
        return _copy_snapshot(job, store, target, say, copy.restarts)
    say("syncing", 1.0)
    files.sync(target)
    return Copied(*slices.state, copy.restarts)


class _Slices:
    """Slices of a copy on the writer's thread. ``state`` is there when it is complete."""

    def __init__(self, store: Store, copy: Copy) -> None:
        self._store = store
        self.copy = copy
        self.spent = 0.0
        self.state: tuple[int, int | None] | None = None

    def run(self) -> bool:
        """One slice; True if the copy is complete, or was begun again too often."""
        started = time.monotonic()
        try:
            while True:
                done = self.copy.step(PAGES)
                self.spent = time.monotonic() - started
                if done:
                    # Asked here, where nobody can commit in between.
                    self.state = rows(self._store.connection, STATE)[0]
                if done or self.copy.restarts > MOST_RESTARTS:
                    return True
                if self.spent >= SLICE_SECONDS:
                    return False
        except apsw.BusyError:
            return False


class Syncing:
    """Has a file that grows written to the disk piece by piece.

    What the kernel has not written yet at the end would be written all at once, and every commit
    would wait behind it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._synced = 0

    def step(self) -> None:
        """Sync the file if it has grown enough for it."""
        size = files.size(self._path)
        self._synced = min(self._synced, size)  # it may have been begun again
        if size - self._synced >= _SYNC_BYTES:
            files.sync(self._path)
            self._synced = size


class Standstill:
    """Notices that a copy does not go on, because another program has the database locked."""

    def __init__(self, job: Job, store: Store, copy: Copy) -> None:
        self._job = job
        self._patience = store.lock_timeout
        self._copy = copy
        self._seen = (-1, 0)
        self._moved_at = 0.0

    def wait(self) -> None:
        """Wait a moment if nothing was copied since the last call; :class:`Failure` at last."""
        now = time.monotonic()
        seen = (self._copy.copied, self._copy.restarts)
        if seen != self._seen:
            self._seen, self._moved_at = seen, now
        elif now - self._moved_at > self._patience:
            raise Failure(
                Code.DATABASE,
                "another program keeps the database from being read"
                f" for more than {self._patience:g} s",
            )
        else:
            self._job.pause(_STANDSTILL_SECONDS)


def _follow(job: Job, store: Store, slices: _Slices, target: str, say: Say) -> None:
    copy = slices.copy
    standstill = Standstill(job, store, copy)
    syncing = Syncing(target)
    while not job.between_batches(slices.run):
        say("copying", copy.fraction)
        store.access.crash_point("job: slice")
        syncing.step()
        standstill.wait()
        job.give_way(slices.spent)


def let_go(job: Job, copy: Copy) -> None:
    """Close a copy that is made between batches."""
    try:
        job.between_batches(copy.close)
    except Cancelled:
        copy.close()  # the writer has ended: nobody else uses its connection


def _copy_snapshot(job: Job, store: Store, target: str, say: Say, restarts: int) -> Copied:
    """Copy over a connection of its own, which other connections' commits do not concern."""
    source = open_snapshot(store.path)
    try:
        commits, last_id = rows(source, STATE)[0]
        copy = Copy(source, target)
        syncing = Syncing(target)
        try:
            while not copy.step(PAGES):
                say("copying a snapshot, because another program keeps writing", copy.fraction)
                syncing.step()
        finally:
            copy.close()
    finally:
        source.close()
    say("syncing", 1.0)
    files.sync(target)
    return Copied(commits, last_id, restarts)


def open_snapshot(path: str) -> apsw.Connection:
    """A read-only connection to the database that stays at the state of this moment."""
    source = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        source.set_busy_timeout(1000)
        source.execute("BEGIN")
        rows(source, "SELECT 1 FROM sqlite_schema LIMIT 1")
    except BaseException:
        source.close()
        raise
    return source
