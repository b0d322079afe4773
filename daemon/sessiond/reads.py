"""The read pool: threads, each with its own read-only connection and a deadline per request."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import apsw

from sessiond.sqlite.damage import BROKEN
from sessiond.stats import ReadStats
from sessiond.thread_names import show_name
from sessiond.work import Work
from sessiond_protocol import wire
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.queries.dispatch import Reader
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import SearchMessages

log = logging.getLogger("sessiond.reads")

# Virtual machine steps of SQLite between two looks at the clock: about a millisecond.
_STEPS_BETWEEN_LOOKS = 20_000


class ReadPool:
    """Answers reads on snapshots taken after they arrived.

    ``deliver`` gets a connection, the answer's bytes and the request, on a pool thread.
    ``index_damaged`` is told there what a search found damaged that could be answered without
    the index.
    """

    def __init__(
        self,
        path: str,
        size: int,
        stats: ReadStats,
        deliver: Callable[[Any, bytes, Work], None],
        *,
        index_damaged: Callable[[str], None] = lambda _text: None,
        vfs: str = "",
    ) -> None:
        self._path = path
        self._index_damaged = index_damaged
        self._stats = stats
        self._deliver = deliver
        self._vfs = vfs
        self._works: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"reader-{index}", daemon=True)
            for index in range(size)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work) -> None:
        """Answer a read when a thread is free."""
        self._works.put(work)

    @property
    def waiting(self) -> int:
        """How many reads wait for a thread."""
        return self._works.qsize()

    def stop(self, timeout: float) -> None:
        """Answer what was submitted, then end the threads."""
        for _ in self._threads:
            self._works.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        show_name()
        seat = _Seat(self._path, self._vfs, self._index_damaged)
        while (work := self._works.get()) is not None:
            started = time.monotonic()
            data = seat.answer(work)
            self._stats.read(work, started, time.monotonic())
            self._deliver(work.peer, data, work)
        seat.close()


class _Seat:
    """One thread's connection, opened on first use and again after the file was replaced."""

    def __init__(self, path: str, vfs: str, index_damaged: Callable[[str], None]) -> None:
        self._path = path
        self._index_damaged = index_damaged
        self._vfs = vfs
        self._connection: apsw.Connection | None = None
        self._reader: Reader | None = None
        self._deadline = 0.0

    def answer(self, work: Work) -> bytes:
        self._deadline = work.deadline
        try:
            if time.monotonic() > work.deadline:
                raise Failure(Code.TIMEOUT, "the request's time ran out before it was read")
            reader = self._reader or self._open()
            return wire.response(work.msgid, self._read(reader, work.request))
        except Failure as failure:
            return wire.error_response(work.msgid, failure.wire())
        except apsw.InterruptError:
            late = Failure(Code.TIMEOUT, f"{work.request.METHOD} took longer than allowed")
            return wire.error_response(work.msgid, late.wire())
        except (apsw.Error, UnicodeDecodeError) as error:
            return wire.error_response(work.msgid, Failure(Code.DATABASE, str(error)).wire())
        except ValueError as error:
            return wire.error_response(work.msgid, Failure(Code.INVALID_PARAMS, str(error)).wire())
        except Exception as error:
            log.exception("reading %s failed in a way that nobody foresaw", work.request.METHOD)
            unforeseen = Failure(Code.INTERNAL, f"{type(error).__name__}: {error}")
            return wire.error_response(work.msgid, unforeseen.wire())

    def _read(self, reader: Reader, request: Request[Any]) -> Any:
        try:
            return reader.answer(request)
        except BROKEN as error:
            if not isinstance(request, SearchMessages):
                raise
            found = error
        damaged = isinstance(found, apsw.CorruptError)  # else the index may just be exchanged
        try:
            return reader.answer_unindexed(request)
        except apsw.CorruptError:
            damaged = False  # it is not the index, or not the index alone
            raise
        finally:
            if damaged:
                self._index_damaged(str(found))

    def _open(self) -> Reader:
        connection = apsw.Connection(
            self._path, flags=apsw.SQLITE_OPEN_READONLY, vfs=self._vfs or None
        )
        connection.set_busy_timeout(1000)
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(self._late, _STEPS_BETWEEN_LOOKS)
        self._connection = connection
        self._reader = Reader(connection)
        return self._reader

    def _late(self) -> bool:
        return time.monotonic() > self._deadline

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
