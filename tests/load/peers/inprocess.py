"""Peer *inprocess*: batching inside each process, by a thread, a queue and a window of 100 ms.

A caller puts its write into the queue and waits. When the window is over, the thread takes up to
50 writes, applies them in one transaction (``BEGIN IMMEDIATE``, as *direct* does, for the other
processes batch too) and hands the results back; what is left waits for the next window. With
``--in-flight`` above 1 a process has that many writes in the queue at a time.
"""

import queue
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sessiond_client.bench.latency import Notes
from sessiond_client.bench.operations import WRITES, Operation, messages_in
from sessiond_client.bench.workers import Loop
from tests.load.peers.common import Peer, Settings, main, standard_library_versions
from tests.load.peers.direct import add_sessions, connect, in_transaction, prepare
from tests.load.peers.plain import Statements

_WINDOW_SECONDS: Final = 0.1
_BATCH_SIZE: Final = 50


class BatchingStore:
    """A queue, and the thread that empties it window by window."""

    def __init__(self, database: Path, worker: int) -> None:
        self._connection = connect(database)
        self._statements = Statements(self._connection)
        add_sessions(self._connection, worker)
        self._queue: queue.SimpleQueue[tuple[Operation, Future[None]]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batching")
        self._thread.start()

    def submit(self, operation: Operation) -> Future[None]:
        """Queue one write; the future is done after its commit."""
        future: Future[None] = Future()
        self._queue.put((operation, future))
        return future

    def perform(self, operation: Operation) -> None:
        """Queue one write and wait for it."""
        self.submit(operation).result()

    def close(self) -> None:
        """Apply what is queued, then stop."""
        self._closing.set()
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        while not self._closing.wait(_WINDOW_SECONDS) or not self._queue.empty():
            batch = list(self._take())
            if batch:
                self._apply(batch)

    def _take(self) -> Iterator[tuple[Operation, Future[None]]]:
        for _ in range(_BATCH_SIZE):
            try:
                yield self._queue.get_nowait()
            except queue.Empty:
                return

    def _apply(self, batch: list[tuple[Operation, Future[None]]]) -> None:
        def run_all() -> None:
            for operation, _ in batch:
                self._statements.run(operation)

        try:
            in_transaction(self._connection, run_all)
        except sqlite3.Error as exc:
            for _, future in batch:
                future.set_exception(exc)
        else:
            for _, future in batch:
                future.set_result(None)


@dataclass(slots=True)
class _Waiting:
    future: Future[None]
    started: float
    messages: int


def keep_in_flight(
    count: int, store: BatchingStore, operations: Iterator[Operation], notes: Notes
) -> None:
    """Keep ``count`` writes in the queue; answers come in the order of the calls."""
    waiting: deque[_Waiting] = deque()
    while waiting or notes.more():
        while len(waiting) < count and notes.more():
            operation = next(operations)
            started = notes.start()
            waiting.append(_Waiting(store.submit(operation), started, messages_in(operation)))
        if waiting:
            _settle(waiting.popleft(), notes)


def _settle(oldest: _Waiting, notes: Notes) -> None:
    try:
        oldest.future.result()
    except sqlite3.Error as exc:
        notes.fail(exc)
    else:
        notes.answered(oldest.started, oldest.messages)


def _loop_for(settings: Settings) -> Loop:
    return partial(keep_in_flight, settings.in_flight)


PEER: Final = Peer(
    name="inprocess",
    mixes=WRITES,
    missing="it batches writes; its reads are those of direct",
    prepare=prepare,
    open_store=BatchingStore,
    loop_for=_loop_for,
    keeps_in_flight=True,
    versions=standard_library_versions,
)

if __name__ == "__main__":
    sys.exit(main(PEER))
