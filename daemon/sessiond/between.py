"""Errands between two batches whose results somebody waits for on another thread."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, Final, TypeVar

from sessiond.database import UnsafeFile
from sessiond.inbox import Inbox
from sessiond.job import Cancelled

T = TypeVar("T")

_MEANWHILE_SECONDS: Final = 1.0


class BetweenBatches:
    """Puts errands into the writer's inbox and waits for them. Any thread but the writer's."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._lock = threading.Lock()
        self._waiting: set[futures.Future[Any]] = set()
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether writes wait for the writer."""
        return self._inbox.requests > 0

    def run(self, errand: Callable[[], T], meanwhile: Callable[[], None] = lambda: None) -> T:
        """The result of an errand, or its error raised; ``meanwhile`` is called every second.

        :class:`~sessiond.database.UnsafeFile` is the writer's alarm and raised there alone: the
        process ends. Raises :class:`~sessiond.job.Cancelled` when the writer has ended.
        """
        future: futures.Future[T] = futures.Future()
        with self._lock:
            if self._closed:
                raise Cancelled
            self._waiting.add(future)
        try:
            self._inbox.put_errand(lambda: _carry_out(errand, future))
            while not futures.wait((future,), _MEANWHILE_SECONDS).done:
                meanwhile()
            return future.result()
        finally:
            with self._lock:
                self._waiting.discard(future)

    def close(self) -> None:
        """The writer has ended: nobody waits for it any more."""
        with self._lock:
            self._closed = True
            left = list(self._waiting)
        for future in left:
            if not future.done():
                future.set_exception(Cancelled())


def _carry_out(errand: Callable[[], T], future: "futures.Future[T]") -> None:
    try:
        result = errand()
    except UnsafeFile:
        raise
    except BaseException as error:  # noqa: BLE001 (whoever waits raises it)
        future.set_exception(error)
    else:
        future.set_result(result)
