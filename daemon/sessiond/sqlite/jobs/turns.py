"""Errands that write, and may meet another program's lock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import apsw

from sessiond.database import UnsafeFile
from sessiond.job import Job
from sessiond.sqlite.ask import beating
from sessiond.sqlite.store import Store
from sessiond_protocol.errors import Code, Failure

T = TypeVar("T")

_PAUSE_SECONDS: Final = 0.05


def refuse_unwritable(store: Store) -> None:
    """Raise :class:`Failure` while nothing may be written, for instance to a damaged file."""
    health = store.health()
    if not health["writable"]:
        raise Failure(Code.DATABASE, str(health["reason"]))


def patiently(
    job: Job,
    store: Store,
    errand: Callable[[], T],
    meanwhile: Callable[[], None] = lambda: None,
) -> T:
    """Have an errand run, again and again while another program has the write lock.

    Between the tries the writer goes on with everybody's requests.
    """
    deadline = time.monotonic() + store.lock_timeout
    while True:
        try:
            return job.between_batches(errand, meanwhile)
        except apsw.BusyError as error:
            if time.monotonic() > deadline:
                raise Failure(
                    Code.DATABASE,
                    "another program holds the database's write lock"
                    f" for more than {store.lock_timeout:g} s",
                ) from error
        job.pause(_PAUSE_SECONDS)


@contextmanager
def own_transaction(job: Job, store: Store) -> Iterator[apsw.Connection]:
    """What a job writes with transactions of its own, on the writer's thread.

    The files are looked at before and after it, the writer's heartbeat is fed, and a stop ends
    it. What fails at the disk leaves the fate of a commit unknown.
    """
    access = store.access
    with access.working():
        pass  # the files are the ones that are open here, and nobody else is writing

    def beat() -> None:
        store.beat()
        job.beat()

    try:
        with beating(store.connection, beat):
            yield store.connection
    except apsw.IOError as error:
        raise UnsafeFile(f"the fate of a commit is unknown: {error}") from error


def look_again(store: Store) -> None:
    """The files are still the ones that were written to, or this is the alarm."""
    try:
        with store.access.working():
            pass
    except apsw.BusyError:
        return  # another program writes already; the next batch looks as well
    except apsw.FullError:
        return
