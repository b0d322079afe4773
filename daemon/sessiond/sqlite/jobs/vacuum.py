"""The job that writes the database anew, without its free pages."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import apsw

from sessiond.job import Job
from sessiond.sqlite.ask import rows, size_in_bytes, value
from sessiond.sqlite.jobs.copying import check_room
from sessiond.sqlite.jobs.turns import look_again, own_transaction, patiently, refuse_unwritable
from sessiond.sqlite.store import Store


def run(job: Job, store: Store) -> dict[str, Any]:
    """Vacuum in one errand: everybody who writes waits until it is over.

    SQLite writes the pages in use into a temporary file and from there into the log, both
    beside the database. The result: ``bytes_before``, ``bytes_after`` and ``seconds``.
    """
    started = time.monotonic()
    refuse_unwritable(store)
    job.say("looking for room")
    before, used = job.between_batches(lambda: _sizes(store.connection))
    folder = os.path.dirname(store.path)
    check_room(2 * used, folder, "a vacuum")
    job.say("vacuuming, nobody else can write meanwhile")
    patiently(job, store, lambda: _vacuum(job, store, folder), _progress(store))
    job.say("emptying the write-ahead log, others wait")
    job.between_batches(store.checkpoints.truncate, _progress(store))
    after, _ = job.between_batches(lambda: _sizes(store.connection))
    return {
        "bytes_before": before,
        "bytes_after": after,
        "seconds": time.monotonic() - started,
    }


def _sizes(connection: apsw.Connection) -> tuple[int, int]:
    """Bytes of the database, and of the pages in use."""
    free = value(connection, "PRAGMA freelist_count") * value(connection, "PRAGMA page_size")
    size = size_in_bytes(connection)
    return size, size - free


def _vacuum(job: Job, store: Store, folder: str) -> None:
    try:
        with own_transaction(job, store) as connection, _temporary_files(connection, folder):
            connection.execute("VACUUM")
    except apsw.FullError:
        # What was written to the log in vain would leave no room for anybody's next commit.
        with suppress(apsw.Error):
            store.checkpoints.truncate()
        raise
    store.access.watch.own_change()
    look_again(store)


class _temporary_files:  # noqa: N801 (used as a statement)
    """SQLite's temporary files lie in this folder, and not in memory."""

    def __init__(self, connection: apsw.Connection, folder: str) -> None:
        self._connection = connection
        self._folder = folder

    def __enter__(self) -> None:
        quoted = self._folder.replace("'", "''")
        rows(self._connection, f"PRAGMA temp_store_directory = '{quoted}'")
        rows(self._connection, "PRAGMA temp_store = FILE")

    def __exit__(self, *_: object) -> None:
        rows(self._connection, "PRAGMA temp_store = MEMORY")
        rows(self._connection, "PRAGMA temp_store_directory = ''")


def _progress(store: Store) -> Callable[[], None]:
    """Feeds the heartbeat as long as the files change.

    The last part of it, from the temporary file into the log and from there into the database,
    is one call each, in which SQLite says nothing.
    """
    seen = _look(store.path)

    def meanwhile() -> None:
        nonlocal seen
        now = _look(store.path)
        if now != seen:
            seen = now
            store.beat()

    return meanwhile


def _look(path: str) -> list[tuple[int, int]]:
    found = []
    for name in (path, f"{path}-wal"):
        with suppress(OSError):
            state = os.stat(name)
            found.append((state.st_size, state.st_mtime_ns))
    return found
