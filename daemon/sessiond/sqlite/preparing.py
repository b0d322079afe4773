"""A backup made ready to take a database's place: checked, copied, migrated, given a new history.

All of it happens in a copy, so that what takes the place is complete before it does, and a
failure leaves both the database and the backup as they were.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final
from urllib.parse import quote

import apsw
import msgspec

from sessiond.sqlite import files, pragmas
from sessiond.sqlite.ask import beating, rows, value
from sessiond.sqlite.backup import copy_to
from sessiond.sqlite.migrations import migrate, plan
from sessiond.sqlite.opening import judged, mend_sequence, refusing
from sessiond.sqlite.refusal import OpenRefused, Reason

Progress = Callable[[str, float], None]
Hook = Callable[[str], None]

_PAGES_PER_STEP: Final = 2_000
_BUSY_MS: Final = 5_000
_CACHE_KIB: Final = 65_536
# From SQLite's file format: where the header says which journal its writers use, and how.
_JOURNAL_OFFSET: Final = 19
_WRITE_AHEAD: Final = 2


class Prepared(msgspec.Struct, frozen=True):
    """A copy that is ready: its identity, and what is in it.

    ``from_version`` is the schema's version in the backup, ``version`` the copy's.
    """

    path: str
    generation: bytes
    commits: int
    from_version: int
    version: int
    sessions: int
    messages: int


@contextmanager
def opened(path: str) -> Iterator[apsw.Connection]:
    """A backup, read-only and recognised as a session database that can be served.

    Raises :class:`OpenRefused` for everything else. Nothing beside the backup is made where
    that can be avoided.
    """
    real = _regular_file(path)
    # Without its log a file in write-ahead mode has no user, but SQLite would make one.
    alone = "&immutable=1" if _is_write_ahead(real) and not os.path.lexists(f"{real}-wal") else ""
    with refusing(path):
        connection = apsw.Connection(
            f"file:{quote(real)}?mode=ro{alone}",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        )
    try:
        connection.set_busy_timeout(_BUSY_MS)
        pragmas.distrust_schema(connection)
        with refusing(path), _not_busy(path):
            # One snapshot for all that follows: the backup may be a database in use.
            connection.execute("BEGIN")
            if judged(connection).is_empty:
                raise OpenRefused(Reason.NOT_OURS, f"{path} holds no sessions: it is empty")
            plan(connection)
        yield connection
    finally:
        connection.close()


def _regular_file(path: str) -> str:
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except OSError as error:
        raise OpenRefused(
            Reason.NOT_A_FILE, f"backup {path} cannot be read: {error.strerror}"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise OpenRefused(Reason.NOT_A_FILE, f"backup {path} is not a regular file")
    return real


def _is_write_ahead(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(_JOURNAL_OFFSET + 1)
    except OSError as error:
        raise OpenRefused(
            Reason.NO_ACCESS, f"backup {path} cannot be read: {error.strerror}"
        ) from error
    return len(head) > _JOURNAL_OFFSET and head[_JOURNAL_OFFSET] == _WRITE_AHEAD


@contextmanager
def _not_busy(path: str) -> Iterator[None]:
    try:
        yield
    except apsw.BusyError as error:
        raise OpenRefused(
            Reason.NO_ACCESS, f"backup {path} is being written by another program: {error}"
        ) from error


def prepare(
    source: apsw.Connection,
    target: str,
    *,
    known_commits: int = 0,
    page_size: int | None = None,
    progress: Progress = lambda _step, _fraction: None,
    hook: Hook = lambda _step: None,
) -> Prepared:
    """Make a copy of a backup that :func:`opened` gave, ready to be a daemon's database.

    The copy is of the current version, has a generation of its own, more commits than
    ``known_commits``, and no channels: whoever comes with a number from before is told that
    nothing is known of it. It is a single file, synced, with pages of ``page_size`` bytes (the
    backup's by default). ``target`` must not exist; after a failure it may. Raises
    :class:`OpenRefused`.
    """
    path = source.filename
    with refusing(path), _not_busy(path):
        _refuse_damaged(source, progress)
        before = plan(source)
        hook("prepare: checked")
        for _ in copy_to(source, target, _PAGES_PER_STEP, progress):
            hook("prepare: copying")
    with refusing(target):
        copy = apsw.Connection(target, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            pragmas.configure(copy, _CACHE_KIB)
            # Worth nothing before it is complete: neither synced nor journalled on the way.
            copy.execute("PRAGMA synchronous=OFF")
            copy.execute("PRAGMA journal_mode=MEMORY").fetchall()
            migrate(copy, before, progress, hook)
            if page_size is not None:
                _set_page_size(copy, page_size, progress)
            generation, commits = _begin_history(copy, known_commits)
            hook("prepare: renewed")
            copy.execute("PRAGMA journal_mode=DELETE").fetchall()
            found = [value(copy, f"SELECT count(*) FROM {name}") for name in _COUNTED]
        finally:
            copy.close()
    files.sync(target)
    hook("prepare: synced")
    return Prepared(target, generation, commits, before.from_version, before.to_version, *found)


_COUNTED: Final = ("sessions", "messages")


def _begin_history(copy: apsw.Connection, known_commits: int) -> tuple[bytes, int]:
    """Give the copy an identity that nobody has met; no receipt is left that could answer."""
    generation = os.urandom(16)
    copy.execute("BEGIN IMMEDIATE")
    for table in ("sessiond_receipts", "sessiond_clients"):
        copy.execute(f"DELETE FROM {table}")
    mend_sequence(copy)
    copy.execute(
        "UPDATE sessiond_meta SET generation = ?, commits = max(commits, ?) + 1",
        (generation, known_commits),
    )
    commits: int = value(copy, "SELECT commits FROM sessiond_meta")
    copy.execute("COMMIT")
    return generation, commits


def _set_page_size(copy: apsw.Connection, wanted: int, progress: Progress) -> None:
    if value(copy, "PRAGMA page_size") == wanted:
        return
    copy.execute("PRAGMA temp_store=FILE")
    copy.execute(f"PRAGMA page_size={wanted}")
    with beating(copy, partial(progress, "changing the page size", 0.0)):
        copy.execute("VACUUM")


def _refuse_damaged(source: apsw.Connection, progress: Progress) -> None:
    """The indexes of text are derivatives, and mended: their own tables are not asked."""
    for number, table in enumerate(tables := _plain_tables(source)):
        step = partial(progress, "checking", number / len(tables))
        step()
        with beating(source, step):
            found = rows(source, f"PRAGMA quick_check('{table}')")
        if found != [("ok",)]:
            raise OpenRefused(Reason.DAMAGED, f"backup {source.filename} is damaged: {found[0][0]}")


def _plain_tables(source: apsw.Connection) -> list[str]:
    found = rows(source, "SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
    virtual = [
        name for name, sql in found if str(sql).lstrip().upper().startswith("CREATE VIRTUAL")
    ]
    inner = tuple(f"{name}_" for name in virtual)
    return [
        name.replace("'", "''")
        for name, _ in found
        if name not in virtual and not name.startswith(("sqlite_", *inner))
    ]


def check_room(folder: str, needed: int) -> None:
    """Refuse before anything is written if there is no room for all of it."""
    needed += files.SPARE_BYTES
    free = files.free_bytes(folder)
    if free < needed:
        raise OpenRefused(
            Reason.NO_SPACE,
            f"restoring needs {needed} bytes in {folder}, {free} are free",
        )
