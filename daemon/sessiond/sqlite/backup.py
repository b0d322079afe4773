"""Copies of a database made with SQLite's backup API, beside the file and elsewhere."""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from typing import Final

import apsw

from sessiond.sqlite import files
from sessiond.sqlite.ask import beating, rows, size_in_bytes, value
from sessiond.sqlite.refusal import OpenRefused, Reason

logger = logging.getLogger("sessiond.backup")

Progress = Callable[[str, float], None]
Hook = Callable[[str], None]

_PAGES_PER_STEP: Final = 2_000


def copy_to(
    connection: apsw.Connection,
    target_path: str,
    pages_per_step: int,
    progress: Progress = lambda _name, _fraction: None,
) -> Iterator[float]:
    """Copy the database into a new file, one slice per step of the iterator.

    Yields the fraction done, 1.0 last; then the copy is complete, a single file in rollback
    mode, synced. Closing the iterator early leaves an incomplete file. ``target_path`` must
    not exist; the file gets the source's mode and, for root, its owner. Commits made over
    ``connection`` while slices are pending are in the copy; commits of other connections start
    it anew, unless ``connection`` has a read transaction open. ``apsw.BusyError``: a slice met
    a foreign lock; go on with another step of a new iterator.
    """
    copy = Copy(connection, target_path)
    try:
        while not copy.step(pages_per_step):
            progress("copying", copy.fraction)
            yield copy.fraction
    finally:
        copy.close()
    files.sync(target_path)
    progress("copying", 1.0)
    yield 1.0


class Copy:
    """A copy under way, made in slices over ``connection``; see :func:`copy_to`.

    ``pages`` is the database's size at the last step, ``copied`` how many of them are done,
    ``restarts`` how often a commit of another connection had it begin again. Whoever is done
    closes it, on the thread that made the steps; then a complete one has to be synced.
    """

    def __init__(self, connection: apsw.Connection, target_path: str) -> None:
        _make_like(connection.filename, target_path)
        self._target = target = apsw.Connection(target_path, flags=apsw.SQLITE_OPEN_READWRITE)
        self.pages = self.copied = self.restarts = 0
        try:
            # The copy has no value before it is complete, so nothing of it is journalled or
            # synced on the way.
            target.execute("PRAGMA synchronous=OFF")
            target.execute("PRAGMA journal_mode=OFF").fetchall()
            self._backup = target.backup("main", connection, "main")
        except BaseException:
            target.close()
            raise

    @property
    def fraction(self) -> float:
        """How much is done."""
        return self.copied / max(self.pages, 1)

    def step(self, pages: int) -> bool:
        """Copy so many pages more; True if that was the last of it."""
        done = self._backup.step(pages)
        self.pages = self._backup.page_count
        copied = self.pages - self._backup.remaining
        if not done and copied <= self.copied:
            self.restarts += 1
        self.copied = copied
        if done:
            self._backup.finish()
            # The copied header may ask for a log; one file is easier to keep and to move.
            self._target.execute("PRAGMA journal_mode=DELETE").fetchall()
        return done

    def close(self) -> None:
        """Let go of both files; a copy that is not complete is worth nothing."""
        self._backup.close(True)
        self._target.close()


def backup_before_migration(
    connection: apsw.Connection,
    path: str,
    version: int,
    progress: Progress = lambda _name, _fraction: None,
    hook: Hook = lambda _step: None,
) -> str:
    """Keep the file as it is in ``<path>.v<version>.bak``; returns that path.

    The copy is written aside, verified, synced and renamed, so that the name always stands for
    a complete one. A complete one that exists is kept and not overwritten; an incomplete one
    is renamed and left. Raises :class:`OpenRefused` when there is no room or the copy cannot
    be made: then nothing may be migrated.
    """
    final = f"{path}.v{version}.bak"
    aside = f"{final}.partial"
    if _is_complete(connection, final, version):
        logger.info("backup %s exists and is kept", final)
        return final
    try:
        files.discard(aside)
        _check_room(connection, path)
        hook("backup: begun")
        _copy_verified(connection, aside, progress, hook)
        hook("backup: verified")
        _set_aside_incomplete(final)
        os.rename(aside, final)
        hook("backup: renamed")
        files.sync(os.path.dirname(final))
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError, OSError) as error:
        files.discard_quietly(aside)
        raise _refusal(path, final, error) from error
    except OpenRefused:
        files.discard_quietly(aside)
        raise
    logger.info("backup of version %d is in %s", version, final)
    return final


def _copy_verified(connection: apsw.Connection, aside: str, progress: Progress, hook: Hook) -> None:
    # One snapshot for the copy and for what it is compared with: another program may write.
    connection.execute("BEGIN")
    try:
        wanted = _counts(connection)
        for _ in copy_to(
            connection, aside, _PAGES_PER_STEP, lambda _, done: progress("backup", done * 0.7)
        ):
            hook("backup: copying")
        hook("backup: copied")
        copy = open_copy(aside)
        try:
            with beating(copy, lambda: progress("backup", 0.8)):
                found, problems = _counts(copy), _problems(copy)
        finally:
            copy.close()
        if found != wanted:
            raise OpenRefused(
                Reason.IO,
                f"backup {aside} has {found} rows where the database has {wanted};"
                " nothing was migrated",
            )
        if problems:
            with beating(connection, lambda: progress("backup", 0.9)):
                _compare_damage(_problems(connection), problems, aside)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    progress("backup", 1.0)


def _compare_damage(here: list[str], there: list[str], aside: str) -> None:
    """A copy with the damage that the source has is a faithful one; any other is worthless."""
    if here != there:
        raise OpenRefused(Reason.IO, f"backup {aside} is damaged: {there[0]}; nothing was migrated")
    logger.warning("the database is damaged, and so is its backup: %s", "; ".join(here))


def _counts(connection: apsw.Connection) -> dict[str, int]:
    """Rows by base table, of those that exist."""
    return {
        table: value(connection, f"SELECT count(*) FROM {table}")
        for table in _base_tables(connection)
    }


def _problems(connection: apsw.Connection) -> list[str]:
    """What SQLite's check finds in the base tables. Indexes of text are derivatives: not asked."""
    found: list[str] = []
    for table in _base_tables(connection):
        answer = rows(connection, f"PRAGMA quick_check('{table}')")
        found += [str(text) for (text,) in answer if text != "ok"]
    return found


def _base_tables(connection: apsw.Connection) -> list[str]:
    names = rows(
        connection,
        "SELECT lower(name) FROM sqlite_schema WHERE type = 'table'"
        " AND lower(name) IN ('sessions', 'messages') ORDER BY 1",
    )
    return [name for (name,) in names]


def open_copy(path: str) -> apsw.Connection:
    """A finished copy, to be looked at."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    return connection


def _is_complete(source: apsw.Connection, path: str, version: int) -> bool:
    """Whether a finished backup of this version lies at the path."""
    if not os.path.lexists(path):
        return False
    try:
        connection = open_copy(path)
    except apsw.Error:
        return False
    try:
        found = value(connection, "SELECT max(version) FROM schema_version")
        problems = _problems(connection)
        return found in (version, None) and (not problems or problems == _problems(source))
    except apsw.Error:
        return False
    finally:
        connection.close()


def _set_aside_incomplete(path: str) -> None:
    if not os.path.lexists(path):
        return
    number = 1
    while os.path.lexists(f"{path}.incomplete-{number}"):
        number += 1
    os.rename(path, f"{path}.incomplete-{number}")
    logger.warning("%s was not a complete backup, it is now %s.incomplete-%d", path, path, number)


def _check_room(connection: apsw.Connection, path: str) -> None:
    needed = size_in_bytes(connection) + files.SPARE_BYTES
    free = files.free_bytes(os.path.dirname(path))
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed} bytes are needed, {free} are free")


def _refusal(path: str, final: str, error: Exception) -> OpenRefused:
    full = isinstance(error, apsw.FullError) or getattr(error, "errno", None) == errno.ENOSPC
    return OpenRefused(
        Reason.NO_SPACE if full else Reason.IO,
        f"{path} is not migrated, because its backup {final} cannot be written: {error}",
    )


def _make_like(source: str, target: str) -> None:
    like = os.stat(source)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(target, flags, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, like.st_uid, like.st_gid)
        os.fchmod(descriptor, like.st_mode & 0o777)
    finally:
        os.close(descriptor)
