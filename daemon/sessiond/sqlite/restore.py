"""Putting a backup in a database's place while no daemon serves it.

The file that takes the place is complete, synced and locked before it gets the name, by one
rename; what was there before is kept beside it. Whoever is cut short leaves the old database or
the new one, whole, and the next attempt removes what was unfinished.
"""

import errno
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable
from typing import Final

import apsw
import msgspec

from sessiond.sqlite import files, open_elsewhere, own_names, pragmas, preparing
from sessiond.sqlite.ask import size_in_bytes, value
from sessiond.sqlite.backup import copy_to
from sessiond.sqlite.file_locks import describe, supported
from sessiond.sqlite.guard import Guard, refuse_stray_log
from sessiond.sqlite.judge import look
from sessiond.sqlite.location import checked_path
from sessiond.sqlite.opening import judged, refusing
from sessiond.sqlite.preparing import Prepared, prepare
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond.sqlite.taking import take_daemon_lock
from sessiond.state_file import Announcement
from sessiond_protocol import paths
from sessiond_protocol.state_file import State

logger = logging.getLogger("sessiond.restore")

Progress = Callable[[str, float], None]
Hook = Callable[[str], None]

_PAGES_PER_STEP: Final = 2_000
_BUSY_MS: Final = 5_000
# What SQLite would replay into a file of this name, and what belongs to it.
_REPLAYED: Final = ("-wal", "-journal")
_BESIDE: Final = ("-shm", *_REPLAYED)


class Restored(msgspec.Struct, frozen=True):
    """What was done. ``kept``: where the database before is, None if there was nothing in it."""

    database: str
    backup: str
    kept: str | None
    generation: str
    from_version: int
    version: int
    sessions: int
    messages: int


def restore(
    backup: str,
    database: str,
    *,
    patience: float = 30.0,
    allow_network_fs: bool = False,
    progress: Progress = lambda _step, _fraction: None,
    hook: Hook = lambda _step: None,
) -> Restored:
    """Put a copy of a backup in the place of a database that nobody serves.

    The database before is kept as ``<database>.before-restore-<time>``. ``progress`` gets the
    steps' names and the fraction done; ``hook`` is called at every point whose interruption
    must be harmless. Raises :class:`OpenRefused`, and
    :class:`~sessiond.sqlite.taking.AlreadyServed`; then everything is as it was.
    """
    path = checked_path(database, allow_network_fs=allow_network_fs)
    refuse_same(backup, path)
    is_new = not os.path.lexists(path)
    guard = Guard(path)
    try:
        take_daemon_lock(guard, patience)
        try:
            return _Restoring(path, backup, is_new, progress, hook).run()
        finally:
            if is_new and files.size(path) == 0:
                os.unlink(path)  # the lock needed a file
    finally:
        guard.let_go()


def refuse_same(backup: str, path: str) -> None:
    """Refuse a database's own files as its backup, whatever names lead to them."""
    own = own_names.own_name(backup, path)
    if own == os.path.realpath(path):
        raise OpenRefused(Reason.NOT_A_FILE, f"backup {backup} is the database itself")
    if own is not None:
        raise OpenRefused(Reason.NOT_A_FILE, f"backup {backup} is a file of the database itself")


class _Restoring:
    """One attempt, under the daemon's lock."""

    def __init__(
        self,
        path: str,
        backup: str,
        is_new: bool,
        progress: Progress,
        hook: Hook,
    ) -> None:
        self._path = path
        self._backup = backup
        self._is_new = is_new
        self._progress = progress
        self._hook = hook
        self._aside = own_names.restoring(path)
        self._unkept = own_names.unkept(path)
        self._announcement = Announcement(path)
        self._seen = 0  # data_version of what was kept

    def run(self) -> Restored:
        before = self._announcement.take_over()
        message = before.message if before is not None else ""
        present: apsw.Connection | None = None
        try:
            refuse_stray_log(self._path, before.stray_log if before is not None else "")
            for leftover in (self._aside, self._unkept):
                files.discard(leftover)
            self._refuse_writers()
            present = self._open_present()
            with preparing.opened(self._backup) as source:
                self._check_room(source, present)
                known = before.commits if before is not None else 0
                prepared = prepare(
                    source,
                    self._aside,
                    known_commits=known,
                    progress=self._progress,
                    hook=self._hook,
                )
            self._dress()
            kept = self._keep(present)
            try:
                self._swap(present)
            except OpenRefused:
                if kept is not None:
                    files.discard(kept)
                raise
            message = f"restored from {self._backup}"
            return self._done(prepared, kept)
        except OSError as error:
            full = error.errno == errno.ENOSPC
            raise OpenRefused(
                Reason.NO_SPACE if full else Reason.IO,
                f"{self._path} was not restored: {error}",
            ) from error
        finally:
            if present is not None:
                present.close()
            for leftover in (self._aside, self._unkept):
                files.discard(leftover)
            self._announcement.say(state=State.STOPPED, message=message)
            if self._is_new and files.size(self._path) == 0:
                os.unlink(paths.state_file(self._path))  # there is nothing to speak of

    def _done(self, prepared: Prepared, kept: str | None) -> Restored:
        generation = prepared.generation.hex()
        self._announcement.say(generation=generation, commits=prepared.commits)
        return Restored(
            self._path,
            self._backup,
            kept,
            generation,
            prepared.from_version,
            prepared.version,
            prepared.sessions,
            prepared.messages,
        )

    # --- what is there ---------------------------------------------------------------------

    def _refuse_writers(self) -> None:
        """A program that has the file open would go on writing to what was there before."""
        found = open_elsewhere.writers(self._path)
        if found:
            raise OpenRefused(
                Reason.NO_ACCESS,
                f"{self._path} is open in {', '.join(map(describe, found))}:"
                " end it before restoring, what it writes would be lost",
            )

    def _open_present(self) -> apsw.Connection | None:
        """The database as it is now; None if it cannot be read, or nothing is in it."""
        if os.stat(self._path).st_size == 0:
            return None
        with refusing(self._path):
            connection = apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.set_busy_timeout(_BUSY_MS)
            pragmas.distrust_schema(connection)
            if self._is_readable(connection) and not look(connection).is_empty:
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None

    def _is_readable(self, connection: apsw.Connection) -> bool:
        try:
            with refusing(self._path):
                judged(connection)
        except OpenRefused as refused:
            if isinstance(
                refused.__cause__, apsw.NotADBError | apsw.CorruptError | apsw.FormatError
            ):
                logger.warning("%s cannot be read, its files are kept as they are", self._path)
                return False
            if refused.reason is not Reason.SCHEMA:
                raise  # another program's: whoever named it meant something else
        return True

    def _check_room(self, source: apsw.Connection, present: apsw.Connection | None) -> None:
        if present is not None:
            kept = size_in_bytes(present)
        else:
            kept = sum(files.size(name) for name in self._files())
        preparing.check_room(os.path.dirname(self._path), size_in_bytes(source) + kept)

    def _files(self) -> list[str]:
        return [self._path, *(f"{self._path}{suffix}" for suffix in _BESIDE)]

    def _dress(self) -> None:
        """Mode and owner like the database before; the backup's where there was none."""
        now = os.stat(self._aside)
        if self._is_new:
            os.chmod(self._aside, stat.S_IMODE(now.st_mode) | stat.S_IRUSR | stat.S_IWUSR)
            return
        like = os.stat(self._path)
        if (now.st_uid, now.st_gid) != (like.st_uid, like.st_gid):
            try:
                os.chown(self._aside, like.st_uid, like.st_gid)
            except PermissionError as error:
                raise OpenRefused(
                    Reason.NO_ACCESS,
                    f"{self._path} belongs to uid {like.st_uid}, gid {like.st_gid}:"
                    f" uid {os.geteuid()} cannot make a file like it",
                ) from error
        os.chmod(self._aside, stat.S_IMODE(like.st_mode))

    # --- keeping it ------------------------------------------------------------------------

    def _keep(self, present: apsw.Connection | None) -> str | None:
        """Copy the database before, complete under its name or not there."""
        if present is None and files.size(self._path) == 0:
            return None
        kept = kept_path(self._path)
        if present is None:
            self._keep_files(kept)
        else:
            with refusing(self._path):
                present.execute("BEGIN")
                self._seen = value(present, "PRAGMA data_version")
                try:
                    for _ in copy_to(present, self._unkept, _PAGES_PER_STEP, self._keeping):
                        self._hook("restore: keeping")
                finally:
                    present.execute("ROLLBACK")
        os.rename(self._unkept, kept)
        self._hook("restore: kept")
        files.sync(os.path.dirname(kept))
        return kept

    def _keep_files(self, kept: str) -> None:
        """What cannot be read as a database is kept byte by byte, its log beside it."""
        found = [suffix for suffix in _REPLAYED if os.path.lexists(f"{self._path}{suffix}")]
        for suffix in (*found, ""):
            target = f"{self._unkept}{suffix}"
            shutil.copy2(f"{self._path}{suffix}", target, follow_symlinks=False)
            files.sync(target)
            self._hook("restore: keeping")
        for suffix in found:
            os.rename(f"{self._unkept}{suffix}", f"{kept}{suffix}")

    def _keeping(self, _step: str, fraction: float) -> None:
        self._progress("keeping the database before", fraction)

    # --- the exchange ----------------------------------------------------------------------

    def _swap(self, present: apsw.Connection | None) -> None:
        folder = os.path.dirname(self._path)
        # The lock on the file before says nothing of the new one: without its own, a daemon
        # could open that while this is still at work.
        successor = Guard(self._aside)
        if supported():
            successor.take_daemon_lock()
        try:
            if present is not None:
                self._empty_log(present)
            self._refuse_writers()
            self._hook("restore: ready")
            for suffix in _BESIDE:
                # A log or journal that stays would be replayed into the new file.
                if os.path.lexists(f"{self._path}{suffix}"):
                    os.unlink(f"{self._path}{suffix}")
                    self._hook("restore: log removed")
            files.sync(folder)
            os.rename(self._aside, self._path)
            self._hook("restore: renamed")
            files.sync(folder)
            self._hook("restore: done")
        finally:
            successor.let_go()

    def _empty_log(self, present: apsw.Connection) -> None:
        """Move the log into the database and lock other writers out, until the end.

        From here on the log may go: whoever is cut short leaves the old database complete.
        """
        with refusing(self._path):
            try:
                present.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                present.execute("BEGIN IMMEDIATE")
            except apsw.BusyError as error:
                raise OpenRefused(
                    Reason.NO_ACCESS,
                    f"{self._path} is being read or written by another program,"
                    f" which keeps its log from being emptied: {error}",
                ) from error
            seen = value(present, "PRAGMA data_version")
            if seen != self._seen or files.size(f"{self._path}-wal") > 0:
                raise OpenRefused(
                    Reason.NO_ACCESS,
                    f"{self._path} was written by another program during the restore",
                )


def kept_path(database: str) -> str:
    """Where the database before a restore is kept, from now on; nothing lies there yet."""
    path = f"{database}.before-restore-{time.strftime('%Y%m%d-%H%M%S')}"
    number, found = 1, path
    while os.path.lexists(found):
        number += 1
        found = f"{path}-{number}"
    return found
