"""Peer *sketch*: a daemon and a batch without any of the promises, for what the design costs.

One process owns the connection and answers on a Unix socket; what arrives while it commits goes
into the next transaction, and the index is written once for each. Nothing is checked, numbered,
accounted, bounded or remembered; a request that is sent twice is stored twice, and the first bad
one ends the daemon. Its clients do no more than send and count. Appends only.

The first rung of ``make bench BENCH=--floor``; *keeping* and *frames* are the next.
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
from tests.load.peers.plain import (
    ADD_MESSAGE,
    ADD_SESSION,
    COUNT_MESSAGES,
    INDEX_AFTER,
    LAST_MESSAGE,
)

_MESSAGES_AT_MOST: Final = 2000
_PAGES_IN_LOG: Final = 4000
RECEIVE_BYTES: Final = 262_144
_PATIENCE: Final = 10.0

Row = list[Any]
# A connection, the request's number there, its rows, and its bytes where somebody needs them.
Waiting = tuple[Transport, int, list[Row], bytes]


def address_of(database: Path) -> str:
    """A path for the socket that is short enough, whatever the database's is."""
    name = hashlib.blake2b(bytes(database.resolve()), digest_size=8).hexdigest()
    return os.path.join(tempfile.gettempdir(), f"peer-{name}.sock")


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


class Batches:
    """What is done with requests and with batches, on the daemon's connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._last: int = cast(int, connection.execute(LAST_MESSAGE).fetchall()[0][0])

    @staticmethod
    def requests(transport: Transport, unpacker: Any) -> list[Waiting]:
        """The requests that have arrived whole."""
        return [(transport, number, rows, b"") for number, rows in unpacker]

    def store(self, requests: list[Waiting]) -> None:
        """Everything of a batch but its transaction."""
        rows = [row for _, _, rows, _ in requests for row in rows]
        counts = Counter(row[0] for row in rows)
        self._connection.executemany(ADD_MESSAGE, rows)
        self._connection.executemany(
            COUNT_MESSAGES, [(count, 0, session) for session, count in counts.items()]
        )
        self._connection.execute(INDEX_AFTER, (self._last,))
        self._last += len(rows)


class _Connection(Protocol):
    """Requests are ``[number, rows]``, answers are the numbers."""

    def __init__(self, queue: _Queue, kind: type[Batches]) -> None:
        self._queue = queue
        self._requests = kind.requests
        self._unpacker = msgpack.Unpacker()

    def connection_made(self, transport: Any) -> None:
        self._transport = cast(Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._unpacker.feed(data)
        self._queue.put(self._requests(self._transport, self._unpacker))


def _write(database: Path, queue: _Queue, loop: AbstractEventLoop, kind: type[Batches]) -> None:
    connection = raw.connect(database)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    connection.execute("PRAGMA cache_size=-16384")
    pages_in_log = 0

    def committed(_connection: apsw.Connection, _name: str, pages: int) -> int:
        nonlocal pages_in_log
        pages_in_log = pages
        return apsw.SQLITE_OK

    connection.set_wal_hook(committed)
    batches = kind(connection)
    while True:
        requests = queue.take()
        connection.execute("BEGIN IMMEDIATE")
        batches.store(requests)
        connection.execute("COMMIT")
        loop.call_soon_threadsafe(_answer, requests)
        if pages_in_log > _PAGES_IN_LOG:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


def _answer(requests: list[Waiting]) -> None:
    answers: dict[Transport, list[bytes]] = {}
    for transport, number, _, _ in requests:
        answers.setdefault(transport, []).append(msgpack.packb(number))
    for transport, parts in answers.items():
        transport.write(b"".join(parts))


def _serve(database: Path, address: str, kind: type[Batches]) -> None:
    loop, queue = uvloop.new_event_loop(), _Queue()
    loop.run_until_complete(loop.create_unix_server(lambda: _Connection(queue, kind), address))
    threading.Thread(target=_write, args=(database, queue, loop, kind), daemon=True).start()
    loop.run_forever()


def prepare(settings: Settings, text: Sequence[str]) -> None:
    """Make the file and start the daemon, which ends with this process."""
    raw.prepare(settings, text)
    start(settings, Batches)


def start(settings: Settings, kind: type[Batches]) -> None:
    """Add the workers' sessions and start a daemon of this kind."""
    with raw.connect(settings.database) as connection:
        rows = [
            (session, time.time())
            for worker in range(settings.processes)
            for session in worker_sessions(worker)
        ]
        connection.executemany(ADD_SESSION, rows)
    connection.close()
    address = address_of(settings.database)
    daemon = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(settings.database, address, kind), daemon=True
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
        self._socket = connected(address_of(database))
        self._unpacker = msgpack.Unpacker()
        self._pack = msgpack.Packer().pack
        self._sent = 0

    def _request(self, operation: Operation) -> bytes:
        return bytes(self._pack((self._sent, rows_of(operation))))

    def send(self, operations: list[Operation]) -> None:
        """Send requests, answered in this order."""
        parts = []
        for operation in operations:
            self._sent += 1
            parts.append(self._request(operation))
        self._socket.sendall(b"".join(parts))

    def answers(self) -> int:
        """Wait for answers; how many came."""
        data = self._socket.recv(RECEIVE_BYTES)
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


def connected(address: str) -> socket.socket:
    """A connection to a daemon that may have to be waited for."""
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


def rows_of(operation: Operation) -> list[tuple[Any, ...]]:
    """The rows that an operation stores."""
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
