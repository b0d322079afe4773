"""Peer *sketch*: a daemon and a batch without any of the promises, for what the design costs.

One process owns the connection and answers on a Unix socket; what arrives while it commits goes
into the next transaction, and the index is written once for each. Nothing is checked, numbered,
accounted, bounded or remembered; a request that is sent twice is stored twice, and the first bad
one ends the daemon. Its clients do no more than send and count. Appends only.
"""

import atexit
import hashlib
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from asyncio import AbstractEventLoop, Protocol, Transport
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import apsw
import msgpack
import uvloop

from sessiond_client.bench.latency import Notes
from sessiond_client.bench.operations import (
    Append,
    AppendMany,
    Message,
    Mix,
    Operation,
    messages_in,
    worker_sessions,
)
from sessiond_client.bench.workers import Loop
from tests.load.peers import raw
from tests.load.peers.common import Peer, Settings, main
from tests.load.peers.plain import ADD_MESSAGE, ADD_SESSION, COUNT_MESSAGES, INDEX_AFTER

_MESSAGES_AT_MOST: Final = 2000
_PAGES_IN_LOG: Final = 4000
_RECEIVE_BYTES: Final = 262_144
_PATIENCE: Final = 10.0

Row = list[Any]
Waiting = tuple[Transport, int, list[Row]]


def _address(database: Path) -> str:
    """A path for the socket that is short enough, whatever the database's is."""
    name = hashlib.blake2b(bytes(database.resolve()), digest_size=8).hexdigest()
    return os.path.join(tempfile.gettempdir(), f"sketch-{name}.sock")


# --- the daemon ----------------------------------------------------------------------------


class _Queue:
    """What waits for the writer."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._waiting: deque[Waiting] = deque()

    def put(self, requests: list[Waiting]) -> None:
        with self._arrived:
            self._waiting += requests
            self._arrived.notify()

    def take(self) -> list[Waiting]:
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting)
            taken: list[Waiting] = []
            messages = 0
            while self._waiting and messages < _MESSAGES_AT_MOST:
                taken.append(self._waiting.popleft())
                messages += len(taken[-1][2])
            return taken


class _Connection(Protocol):
    """Requests are ``[number, rows]``, answers are the numbers."""

    def __init__(self, queue: _Queue) -> None:
        self._queue = queue
        self._unpacker = msgpack.Unpacker()

    def connection_made(self, transport: Any) -> None:
        self._transport = cast(Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._unpacker.feed(data)
        transport = self._transport
        self._queue.put([(transport, number, rows) for number, rows in self._unpacker])


def _write(database: Path, queue: _Queue, loop: AbstractEventLoop) -> None:
    connection = raw.connect(database)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.execute("PRAGMA cache_size=-16384")
    last = connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchall()[0][0]
    pages_in_log = 0

    def committed(_connection: apsw.Connection, _name: str, pages: int) -> int:
        nonlocal pages_in_log
        pages_in_log = pages
        return apsw.SQLITE_OK

    connection.set_wal_hook(committed)
    while True:
        requests = queue.take()
        rows = [row for _, _, rows in requests for row in rows]
        counts = Counter(row[0] for row in rows)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(ADD_MESSAGE, rows)
        changes = [(count, 0, session) for session, count in counts.items()]
        connection.executemany(COUNT_MESSAGES, changes)
        connection.execute(INDEX_AFTER, (last,))
        connection.execute("COMMIT")
        last = connection.last_insert_rowid()
        loop.call_soon_threadsafe(_answer, requests)
        if pages_in_log > _PAGES_IN_LOG:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


def _answer(requests: list[Waiting]) -> None:
    answers: dict[Transport, list[bytes]] = {}
    for transport, number, _ in requests:
        answers.setdefault(transport, []).append(msgpack.packb(number))
    for transport, parts in answers.items():
        transport.write(b"".join(parts))


def _serve(database: Path, address: str) -> None:
    loop, queue = uvloop.new_event_loop(), _Queue()
    loop.run_until_complete(loop.create_unix_server(lambda: _Connection(queue), address))
    threading.Thread(target=_write, args=(database, queue, loop), daemon=True).start()
    loop.run_forever()


def prepare(settings: Settings, text: Sequence[str]) -> None:
    """Make the file and start the daemon, which ends with this process."""
    raw.prepare(settings, text)
    with raw.connect(settings.database) as connection:
        rows = [
            (session, time.time())
            for worker in range(settings.processes)
            for session in worker_sessions(worker)
        ]
        connection.executemany(ADD_SESSION, rows)
    connection.close()
    address = _address(settings.database)
    daemon = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(settings.database, address), daemon=True
    )
    daemon.start()
    atexit.register(partial(_end, daemon, address))


def _end(daemon: Any, address: str) -> None:
    daemon.terminate()
    daemon.join()
    Path(address).unlink(missing_ok=True)


# --- its clients ---------------------------------------------------------------------------


class SketchStore:
    """A socket, and the numbers of what was sent."""

    def __init__(self, database: Path, _worker: int) -> None:
        self._socket = _connected(_address(database))
        self._unpacker = msgpack.Unpacker()
        self._pack = msgpack.Packer().pack
        self._sent = 0

    def send(self, operations: list[Operation]) -> None:
        """Send requests, answered in this order."""
        parts = []
        for operation in operations:
            self._sent += 1
            parts.append(self._pack((self._sent, _rows(operation))))
        self._socket.sendall(b"".join(parts))

    def answers(self) -> int:
        """Wait for answers; how many came."""
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the daemon is gone")
        self._unpacker.feed(data)
        return sum(1 for _ in self._unpacker)

    def perform(self, operation: Operation) -> None:
        """One request, waited for."""
        self.send([operation])
        while not self.answers():
            pass

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()


def _connected(address: str) -> socket.socket:
    give_up = time.monotonic() + _PATIENCE
    while True:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(address)
        except OSError:
            made.close()
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)
        else:
            return made


def _rows(operation: Operation) -> list[tuple[Any, ...]]:
    if isinstance(operation, Append):
        return [_row(operation.message)]
    assert isinstance(operation, AppendMany)
    return [_row(message) for message in operation.messages]


def _row(message: Message) -> tuple[Any, ...]:
    return (message.session, message.role, message.content, *(None,) * 3, time.time(), None, None)


def keep_in_flight(
    count: int, store: SketchStore, operations: Iterator[Operation], notes: Notes
) -> None:
    """Keep ``count`` requests on their way."""
    waiting: deque[tuple[float, int]] = deque()
    while waiting or notes.more():
        sending = []
        while len(waiting) < count and notes.more():
            operation = next(operations)
            waiting.append((notes.start(), messages_in(operation)))
            sending.append(operation)
        if sending:
            store.send(sending)
        if waiting:
            for _ in range(store.answers()):
                notes.answered(*waiting.popleft())


def _loop_for(settings: Settings) -> Loop:
    return partial(keep_in_flight, settings.in_flight)


PEER: Final = Peer(
    name="sketch",
    mixes=frozenset({Mix.APPEND, Mix.APPEND_MANY}),
    missing="it appends and does nothing else",
    prepare=prepare,
    open_store=SketchStore,
    loop_for=_loop_for,
    keeps_in_flight=True,
    versions=raw.versions,
)

if __name__ == "__main__":
    sys.exit(main(PEER))
