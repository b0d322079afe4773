"""``make bench-profile``: where the daemon's processor time goes, part by part.

The daemon's own parts (connection, inbox, writer, store) on one thread, without sockets and
without clients: what they cost when nobody competes with them for a processor or for Python's
lock. Each part's time is its own, without that of the parts inside it.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Final

from sessiond.batching import BatchLimits, BatchRule
from sessiond.connection import Connection
from sessiond.connection_limits import ConnectionLimits
from sessiond.inbox import Inbox
from sessiond.peers import Policy
from sessiond.server import Served, Server
from sessiond.sqlite.batch import Batch
from sessiond.sqlite.insertion import Insertion
from sessiond.sqlite.receipts import Channels
from sessiond.sqlite.transaction import Run
from sessiond.stats import WriterStats
from sessiond.writer import Delivery, Writer
from sessiond_client.bench.operations import worker_sessions
from sessiond_client.cli import output
from sessiond_protocol import wire
from sessiond_protocol.requests.message import Message, MessageAppend, MessageAppendMany
from sessiond_protocol.requests.session import SessionCreate
from tests.load.compare import machine
from tests.load.programs import ROOT
from tests.support.corpus import paragraphs
from tests.unit.daemon.stores import Opened

_CLIENTS: Final = 8
_WARM_UP: Final = 2
_RECEIVED_AT_ONCE: Final = 65_536
_UNBOUNDED: Final = 2**40

# Whose time is SQLite's and the kernel's but for a few calls.
_SQLITE: Final = frozenset({"insert rows", "index, counters", "commit, sync", "checkpoint"})


class Parts:
    """Seconds by part. Parts nest: time goes to the innermost one that runs."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._inside = [0.0]  # seconds spent in parts within each open part

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        self._inside.append(0.0)
        started = self._clock()
        try:
            yield
        finally:
            taken = self._clock() - started
            own = taken - self._inside.pop()
            self._inside[-1] += taken
            self.seconds[name] = self.seconds.get(name, 0.0) + own

    def watch(self, owner: Any, method: str, name: str) -> Callable[[], None]:
        """Count the time of a method; what puts the method back."""
        whole = getattr(owner, method)

        @wraps(whole)
        def counted(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return whole(*arguments, **named)

        setattr(owner, method, counted)
        return lambda: setattr(owner, method, whole)


class _Transport(asyncio.Transport):
    """Takes every answer at once. Whoever looks who is there finds this process."""

    def __init__(self) -> None:
        super().__init__()
        self._socket, self._other = socket.socketpair()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, _name: str, _default: Any = None) -> socket.socket:
        return self._socket

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def close(self) -> None:
        self._socket.close()
        self._other.close()


@dataclass
class Work:
    """What is sent: ``requests`` of each client in a batch, of ``messages`` each."""

    name: str
    clients: int
    requests: int
    messages: int
    batches: int

    @property
    def all_messages(self) -> int:
        """Messages in one batch."""
        return self.clients * self.requests * self.messages


PIPELINED: Final = Work("8 clients, 250 appends each in a batch", _CLIENTS, 250, 1, 20)
ALONE: Final = Work("1 client, an append in a batch", 1, 1, 1, 1000)
LISTS: Final = Work("1 client, a list of 20 in a batch", 1, 1, 20, 400)


@dataclass
class Sender:
    """One client's bytes."""

    connection: Connection
    sessions: list[str]
    texts: Iterator[str]
    sent: int = 0
    roles: Iterator[str] = field(default_factory=lambda: itertools.cycle(("user", "assistant")))

    def bytes_of(self, work: Work) -> bytes:
        """The next requests of a batch."""
        return b"".join(self._request(work.messages) for _ in range(work.requests))

    def _request(self, messages: int) -> bytes:
        self.sent += 1
        session = self.sessions[self.sent % len(self.sessions)]
        made = [
            Message(role=next(self.roles), timestamp=time.time(), content=next(self.texts))
            for _ in range(messages)
        ]
        request: MessageAppend | MessageAppendMany = (
            MessageAppend(session_id=session, message=made[0])
            if messages == 1
            else MessageAppendMany(session_id=session, messages=made)
        )
        # Everything before the batch that is on its way is confirmed.
        place = wire.Place(seq=self.sent, floor=max(1, self.sent - 250), ttl=30.0)
        return wire.request(self.sent, type(request).METHOD, wire.pack(request), place)


class Bench:
    """The daemon's parts, wired as the daemon wires them, but for threads and sockets."""

    def __init__(self, folder: Path, text: Sequence[str]) -> None:
        self.parts = Parts()
        self._delivered: list[list[Delivery]] = []
        self.file = file = Opened(folder / "state.db", clock=time.monotonic)
        self.inbox = inbox = Inbox(_UNBOUNDED, _UNBOUNDED)
        limits = ConnectionLimits(*(_UNBOUNDED,) * 4, 60.0, 60.0, _UNBOUNDED, 60.0, 60.0)
        everybody = Policy(frozenset({os.getuid()}), frozenset(), -1, -1)
        served = Served(str(file.path), 0, 0, "0")
        self.server = Server(served, inbox, limits, everybody, _CLIENTS, dict)
        self.server.serve(*(object(),) * 3)  # type: ignore[arg-type]
        self.writer = Writer(
            inbox,
            file.store,
            BatchRule(BatchLimits(_UNBOUNDED, _UNBOUNDED, 0.0, 3)),
            WriterStats(),
            deliver=self._delivered.append,
            welcome=lambda _work, _greeting: None,
            committed=lambda _applied: None,
            alarm=_raised,
        )
        self.senders = [self._sender(number, text) for number in range(_CLIENTS)]

    def _sender(self, number: int, text: Sequence[str]) -> Sender:
        connection = self.server.protocol()
        connection.connection_made(_Transport())
        connection.client_id = number.to_bytes(16)
        sessions = worker_sessions(number)
        made = [SessionCreate(session_id=each, source="bench", started_at=1.0) for each in sessions]
        self.file.results(*made)
        return Sender(connection, sessions, itertools.cycle(text[number::_CLIENTS]))

    def batch(self, work: Work) -> None:
        """Receive, apply and answer one batch."""
        senders = self.senders[: work.clients]
        sending = [(sender.connection, sender.bytes_of(work)) for sender in senders]
        with self.parts.part("receive, decode"):
            for connection, data in sending:
                for start in range(0, len(data), _RECEIVED_AT_ONCE):
                    connection.data_received(data[start : start + _RECEIVED_AT_ONCE])
        with self.parts.part("answers, statistics"):
            while self.inbox.requests:
                self.writer.turn(0.0)
        with self.parts.part("send"):
            for deliveries in self._delivered:
                for connection, data, works in deliveries:
                    connection.answered(data, works)
        self._delivered.clear()

    def close(self) -> None:
        """Close everything."""
        self.server.close_all()
        self.file.store.close()


def _raised(error: BaseException) -> None:
    raise error


@contextlib.contextmanager
def _watched(bench: Bench) -> Iterator[None]:
    """Count by part from now on."""
    store, watch = bench.file.store, bench.parts.watch
    restore = [
        watch(store, "apply", "begin, around"),
        watch(Run, "apply", "judge, apply"),
        watch(Insertion, "flush", "insert rows"),
        watch(Batch, "finish", "index, counters"),
        watch(Channels, "write", "receipts"),
        watch(Channels, "absorb", "receipts"),
        watch(store.access, "commit", "commit, sync"),
        watch(store, "care", "checkpoint"),
    ]
    try:
        yield
    finally:
        for undo in restore:
            undo()


def profile(work: Work, folder: Path, text: Sequence[str]) -> dict[str, float]:
    """Microseconds of each part for a message, in a database of its own."""

    async def run() -> dict[str, float]:  # a server belongs to a running loop
        bench = Bench(folder, text)
        try:
            for _ in range(_WARM_UP):
                bench.batch(work)
            with _watched(bench):
                bench.parts.seconds.clear()
                for _ in range(work.batches):
                    bench.batch(work)
        finally:
            bench.close()
        messages = work.batches * work.all_messages
        return {name: taken / messages * 1e6 for name, taken in bench.parts.seconds.items()}

    return asyncio.run(run())


def rows(rounds: Sequence[dict[str, float]]) -> list[tuple[str, ...]]:
    """The median of each part, its share, and what is SQLite's and what Python's."""
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    whole = sum(medians.values())
    sqlite = sum(taken for name, taken in medians.items() if name in _SQLITE)

    def row(name: str, taken: float) -> tuple[str, ...]:
        return (name, f"{taken:.2f}", f"{taken / whole:.0%}")

    parts = [
        row(f"  {name}" if name in _SQLITE else name, taken) for name, taken in medians.items()
    ]
    return [
        *parts,
        row("all", whole),
        row("SQLite and the kernel", sqlite),
        row("Python", whole - sqlite),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.profile", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    text = paragraphs(1, 5000)
    here = machine()
    print(f"{here['cores']} cores, {here['machine']}, {here['system']}, load {here['load']:.1f}")
    for work in (PIPELINED, ALONE, LISTS):
        found = []
        for _ in range(chosen.rounds):
            with tempfile.TemporaryDirectory(prefix="profile-", dir=chosen.folder) as folder:
                found.append(profile(work, Path(folder), text))
        print(f"\n{work.name}: the median of {chosen.rounds} runs")
        output.print_table(_COLUMNS, rows(found))
    return 0


_COLUMNS: Final = (
    output.Column("PART"),
    output.Column("µS A MESSAGE", right=True),
    output.Column("SHARE", right=True),
)


if __name__ == "__main__":
    sys.exit(main())
