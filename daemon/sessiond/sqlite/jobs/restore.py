"""The job that puts a backup into the database's place while clients are connected."""

import os
import time
from contextlib import closing, suppress
from functools import partial
from typing import Any, Final

import apsw

from sessiond.database import UnsafeFile
from sessiond.job import Cancelled, Job
from sessiond.sqlite import files, own_names, preparing
from sessiond.sqlite.ask import size_in_bytes, value
from sessiond.sqlite.backup import Copy
from sessiond.sqlite.jobs.copying import (
    MOST_RESTARTS,
    PAGES,
    SLICE_SECONDS,
    Standstill,
    Syncing,
    check_room,
    let_go,
    needed_bytes,
)
from sessiond.sqlite.jobs.turns import look_again, patiently
from sessiond.sqlite.preparing import Prepared, prepare
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond.sqlite.restore import kept_path, refuse_same
from sessiond.sqlite.store import Store
from sessiond_protocol.errors import Code, Failure

_PAGES_AT_ONCE: Final = 1_000
_MOST_TRIES: Final = 3
_CODES: Final = {Reason.NO_SPACE: Code.DISK_FULL, Reason.IO: Code.DATABASE}


class Overtaken(Exception):
    """Another program committed so that what is kept is not what would be replaced."""


def run(job: Job, store: Store, path: str) -> dict[str, Any]:
    """Replace the database's content by a backup's, in one transaction.

    Everybody else waits for that transaction. What was there before is kept beside the
    database. The result: ``path``, ``kept``, ``generation`` (hexadecimal), ``from_version`` and
    ``version`` of the schema, ``sessions``, ``messages`` and ``seconds``.
    """
    if not os.path.isabs(path) or "\0" in path:
        raise Failure(Code.INVALID_PARAMS, f"path must be the absolute one of a file, not {path!r}")
    started = time.monotonic()
    try:
        refuse_same(path, store.path)
        prepared, kept = _restored(_Restoring(job, store, path))
    except OpenRefused as refused:
        code = _CODES.get(refused.reason, Code.INVALID_PARAMS)
        raise Failure(code, refused.message) from refused
    with suppress(Cancelled):  # it is done: that the log is long is no failure
        job.between_batches(store.checkpoints.truncate)
    return {
        "path": path,
        "kept": kept,
        "generation": prepared.generation.hex(),
        "from_version": prepared.from_version,
        "version": prepared.version,
        "sessions": prepared.sessions,
        "messages": prepared.messages,
        "seconds": time.monotonic() - started,
    }


def _restored(restoring: "_Restoring") -> tuple[Prepared, str]:
    try:
        return restoring.prepare(), restoring.exchange()
    finally:
        restoring.clean_up()


class _Restoring:
    """One restore. What is prepared and what is kept lie beside the database until they count."""

    def __init__(self, job: Job, store: Store, path: str) -> None:
        self._job = job
        self._store = store
        self._path = path
        self._aside = own_names.restoring(store.path)
        self._unkept = own_names.unkept(store.path)

    def clean_up(self) -> None:
        for leftover in (self._aside, self._unkept):
            files.discard_quietly(leftover)

    # --- what takes the place ----------------------------------------------------------------

    def prepare(self) -> Prepared:
        """Check the backup, and make a copy of it that can take the place as it is."""
        job, store = self._job, self._store
        job.say("checking the backup")
        for leftover in (self._aside, self._unkept):
            files.discard(leftover)
        page_size = job.between_batches(lambda: value(store.connection, "PRAGMA page_size"))
        with preparing.opened(self._path) as source:
            # The copy, the same once more in the log, and what is kept.
            needed = 2 * size_in_bytes(source) + needed_bytes(job, store)
            check_room(needed, os.path.dirname(store.path), "a restore")
            return prepare(
                source,
                self._aside,
                page_size=page_size,
                progress=lambda step, _done: job.say(f"preparing the backup: {step}"),
                hook=partial(self._gently, Syncing(self._aside)),
            )

    def _gently(self, syncing: Syncing, step: str) -> None:
        if step == "prepare: copying":
            syncing.step()
            self._job.give_way(SLICE_SECONDS)

    # --- the exchange ------------------------------------------------------------------------

    def exchange(self) -> str:
        """Keep what is there, and replace it; where it is kept."""
        for _ in range(_MOST_TRIES):
            files.discard(self._unkept)
            with suppress(Overtaken):
                return self._try()
        raise Failure(
            Code.DATABASE, "another program keeps writing: end it, its writes would be lost"
        )

    def _try(self) -> str:
        job, store = self._job, self._store
        copy = job.between_batches(lambda: Copy(store.connection, self._unkept))
        try:
            self._keep_most(copy)
            job.say("replacing the database, nobody else can write meanwhile")
            return patiently(job, store, lambda: self._replace(copy))
        except apsw.FullError:
            # What was written to the log in vain would leave no room for anybody's next commit.
            job.between_batches(store.checkpoints.truncate)
            raise
        finally:
            let_go(job, copy)

    def _keep_most(self, copy: Copy) -> None:
        """Copy all but the last page in slices. What is written meanwhile gets into the copy."""
        standstill = Standstill(self._job, self._store, copy)
        syncing = Syncing(self._unkept)
        while True:
            started = time.monotonic()
            if self._job.between_batches(lambda: _slice(copy)):
                return
            self._job.say("keeping the database before", copy.fraction)
            syncing.step()
            standstill.wait()
            self._job.give_way(min(time.monotonic() - started, SLICE_SECONDS))

    def _replace(self, copy: Copy) -> str:
        """On the writer's thread: the last page that is kept, and then the transaction."""
        store = self._store
        with store.access.working():
            pass  # the files are the ones that are open here, and nobody else is writing
        with closing(apsw.Connection(store.path, flags=apsw.SQLITE_OPEN_READONLY)) as witness:
            before = value(witness, "PRAGMA data_version")
            while not copy.step(_PAGES_AT_ONCE):
                store.beat()
            copy.close()
            with closing(_raised(self._aside, store.commits)) as source:
                replacing = store.connection.backup("main", source, "main")
                try:
                    self._begin(replacing, witness, before)
                    kept = self._keep()
                    self._finish(replacing, kept)
                finally:
                    replacing.close(True)
        try:
            store.replaced()
            highest: int | None = value(store.connection, "SELECT max(id) FROM messages")
        except Exception as error:
            # What is known in memory is of the history before, and must not be written from.
            raise UnsafeFile(f"the restored database cannot be read: {error}") from error
        store.restored(store.generation, highest or 0)
        look_again(store)
        return kept

    def _begin(self, replacing: apsw.Backup, witness: apsw.Connection, before: int) -> None:
        """Take the write lock; nobody may have written since the last page was kept."""
        try:
            replacing.step(1)
        except apsw.BusyError as error:
            raise Overtaken from error
        if value(witness, "PRAGMA data_version") != before:
            raise Overtaken

    def _keep(self) -> str:
        """What is kept gets its name before anything is replaced."""
        kept = kept_path(self._store.path)
        files.sync(self._unkept)
        self._store.beat()
        os.rename(self._unkept, kept)
        files.sync(os.path.dirname(kept))
        return kept

    def _finish(self, replacing: apsw.Backup, kept: str) -> None:
        crash_point, beat = self._store.access.crash_point, self._store.beat
        crash_point("restore: replacing")
        try:
            while not replacing.step(_PAGES_AT_ONCE):
                beat()
                self._job.beat()
            crash_point("restore: replaced")
        except apsw.IOError as error:
            raise UnsafeFile(f"the fate of a restore is unknown: {error}") from error
        except BaseException:
            files.discard_quietly(kept)
            raise


def _slice(copy: Copy) -> bool:
    """Some pages; True if one is left, or if others have it begin again too often."""
    started = time.monotonic()
    while time.monotonic() - started < SLICE_SECONDS:
        left = copy.pages - copy.copied
        if (copy.pages and left <= 1) or copy.restarts > MOST_RESTARTS:
            return True
        try:
            complete = copy.step(max(1, min(PAGES, left - 1)))
        except apsw.BusyError:
            return False
        if complete:
            # Another program has made the database that small: nothing more would get into it.
            raise Overtaken
    return False


def _raised(path: str, commits: int) -> apsw.Connection:
    """The prepared copy, with more commits than anybody has seen of the database."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("UPDATE sessiond_meta SET commits = max(commits, ?) + 1", (commits,))
    except BaseException:
        connection.close()
        raise
    return connection
