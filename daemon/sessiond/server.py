"""The event loop's side of the daemon: connections, channels, and the ways between them."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

import msgspec

from sessiond.connection import Connection
from sessiond.connection_limits import ConnectionLimits
from sessiond.database import Greeting
from sessiond.feed import Feed
from sessiond.inbox import Inbox
from sessiond.job_desk import JobDesk
from sessiond.peers import Credentials, Policy, credentials_of
from sessiond.work import Entry, Work, one_by_one
from sessiond.writer import Delivery
from sessiond_protocol import wire
from sessiond_protocol.channel import MAX_UNDECIDED
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests.feed import FeedSubscribe, FeedUnsubscribe, Subscribed
from sessiond_protocol.requests.server import (
    DatabaseFile,
    Limits,
    ServerHello,
    ServerStats,
    Welcome,
)
from sessiond_protocol.schema import SCHEMA_VERSION

log = logging.getLogger("sessiond.server")


class State(Enum):
    """How far the daemon is."""

    STARTING = "starting"
    MIGRATING = "migrating"
    SERVING = "serving"
    STOPPING = "stopping"


class Reads(Protocol):
    """What the server needs of the read pool."""

    def submit(self, work: Work) -> None:
        """Answer a read when a thread is free."""
        ...


class Served(msgspec.Struct, frozen=True):
    """What is served: the file, as its path leads to it, and this program's version."""

    path: str
    device: int
    inode: int
    version: str


class Server:
    """Accepts connections and routes their requests; everything here runs on the event loop.

    ``deliver`` and ``deliver_read`` may be called from any thread.
    """

    def __init__(
        self,
        served: Served,
        inbox: Inbox,
        limits: ConnectionLimits,
        policy: Policy,
        max_connections: int,
        stats: Callable[[], dict[str, Any]],
    ) -> None:
        self._served = served
        self._inbox = inbox
        self._limits = limits
        self._policy = policy
        self._max_connections = max_connections
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._reads: Reads | None = None
        self._feed: Feed | None = None
        self._jobs: JobDesk | None = None
        self.connections: set[Connection] = set()
        self._channels: dict[bytes, Connection] = {}
        self._stalled: set[Connection] = set()
        self.state = State.STARTING
        self.ready_at = 0.0  # an estimate while migrating, on the monotonic clock
        self.accepted = 0
        self.refused = 0
        self.last_activity = time.monotonic()

    def serve(self, reads: Reads, feed: Feed, jobs: JobDesk) -> None:
        """The database is open: from now on requests are answered."""
        self._reads = reads
        self._feed = feed
        self._jobs = jobs
        self.state = State.SERVING

    def protocol(self) -> Connection:
        """The asyncio protocol for a connection that was accepted."""
        return Connection(self, self._limits)

    # --- connections -----------------------------------------------------------------------

    def opened(self, connection: Connection) -> bool:
        """Check who it is and whether there is room."""
        self.last_activity = time.monotonic()
        peer = credentials_of(connection.transport.get_extra_info("socket"))
        connection.peer = peer
        failure = None
        if not self._policy.allows(peer):
            failure = Failure(Code.UNAUTHORIZED, f"uid {peer.uid} is not allowed to connect")
        elif len(self.connections) >= self._max_connections:
            failure = Failure(
                Code.OVERLOADED, f"max_connections {self._max_connections} are in use"
            )
        if failure is not None:
            self.refused += 1
            log.warning("refused a connection of %s: %s", peer, failure.message)
            connection.refuse(failure)
            return False
        self.accepted += 1
        self.connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        """Forget a connection; what it has waiting is still applied."""
        self.last_activity = time.monotonic()
        self.connections.discard(connection)
        self._stalled.discard(connection)
        if self._feed is not None:
            self._feed.forget(connection)
        self._leave_channel(connection)

    def greeted(self, connection: Connection, hello: ServerHello) -> None:
        """Take over the channel from its older connection, before the writer answers."""
        self._check_hello(hello)
        if hello.client_id is None:
            return
        older = self._channels.get(hello.client_id)
        if older is not None and older is not connection:
            if not _same_process(older.peer, connection.peer):
                raise Failure(
                    Code.CONFLICT,
                    "this client_id belongs to a living connection of another process",
                )
            older.supersede()
        # Those of closed connections, too: what they sent must not be applied after this hello.
        self._inbox.discard_channel(hello.client_id, keep=connection)
        self._leave_channel(connection)
        self._channels[hello.client_id] = connection

    def _leave_channel(self, connection: Connection) -> None:
        """A connection holds no channel any more, or is about to hold another."""
        client_id = connection.client_id
        if client_id is not None and self._channels.get(client_id) is connection:
            del self._channels[client_id]

    def connected(self) -> frozenset[bytes]:
        """The channels that have a connection now. From any thread."""
        return frozenset(list(self._channels))

    def _check_hello(self, hello: ServerHello) -> None:
        if hello.protocol != wire.PROTOCOL_VERSION:
            raise Failure(
                Code.INVALID_PARAMS,
                f"protocol {hello.protocol} is not spoken here,"
                f" sessiond {self._served.version} speaks {wire.PROTOCOL_VERSION}",
                {"protocol": wire.PROTOCOL_VERSION, "version": self._served.version},
            )
        if hello.database is None:
            return
        try:
            meant = os.stat(hello.database)
            same = (meant.st_dev, meant.st_ino) == (self._served.device, self._served.inode)
        except OSError:
            same = os.path.realpath(hello.database) == self._served.path
        if not same:
            raise Failure(
                Code.CONFLICT,
                f"this daemon serves {self._served.path}, not {hello.database}",
                {"database": self._served.path},
            )

    def welcome(self, work: Work, greeting: Greeting) -> Welcome:
        """Hello's result. Called on the writer's thread; reads nothing that changes."""
        served = self._served
        return Welcome(
            protocol=wire.PROTOCOL_VERSION,
            version=served.version,
            schema_version=SCHEMA_VERSION,
            database=DatabaseFile(served.path, served.device, served.inode),
            limits=Limits(self._limits.max_request_bytes, MAX_UNDECIDED),
            generation=greeting.generation,
            known=greeting.known,
            last=greeting.last,
        )

    # --- requests --------------------------------------------------------------------------

    @property
    def congested(self) -> bool:
        """Whether the inbox is full, so that nobody should have more than one request in it."""
        return self._inbox.full

    def submit_writes(self, works: list[Entry]) -> None:
        """Put requests into the writer's inbox, or refuse them while there is no writer."""
        self.last_activity = works[-1].received
        if self._reads is None or self.state is State.STOPPING:
            failure = self._not_yet()
            for work in one_by_one(works):
                data = wire.error_response(work.msgid, failure.wire())
                self._loop.call_soon(work.peer.answered, data, [work])
            return
        self._inbox.put(works)

    def submit_read(self, work: Work) -> None:
        """Hand a read to the pool."""
        self.last_activity = work.received
        if self._reads is None:
            data = wire.error_response(work.msgid, self._not_yet().wire())
            self._loop.call_soon(work.peer.answered, data, [work])
        else:
            self._reads.submit(work)

    def _not_yet(self) -> Failure:
        seconds = max(0.0, self.ready_at - time.monotonic())
        if self.state is State.STOPPING:
            return Failure(Code.SHUTTING_DOWN, "the daemon is stopping", {"applied": False})
        return Failure(
            Code.MIGRATING,
            f"the database is being {'migrated' if self.state is State.MIGRATING else 'opened'},"
            f" about {seconds:.0f} s are left",
            {"applied": False, "seconds": seconds},
        )

    def answer_control(self, connection: Connection, work: Work) -> Any:
        """Answer a request on the event loop, or say that the answer follows."""
        request = work.request
        if isinstance(request, ServerStats):
            return self._stats()
        self.last_activity = work.received
        if self._feed is None or self._jobs is None:
            raise self._not_yet()
        if isinstance(request, FeedSubscribe):
            added = self._feed.subscribe(
                connection, request.session_id, request.after, request.generation, request.resumed
            )
            return Subscribed(added.number, added.cursor, self._feed.generation)
        if isinstance(request, FeedUnsubscribe):
            self._feed.unsubscribe(request.subscription, connection)
            return None
        return self._jobs.answer(work)

    # --- answers ---------------------------------------------------------------------------

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Hand a batch's answers to their connections. From any thread, once per batch."""
        self._loop.call_soon_threadsafe(self._deliver, deliveries)

    def _deliver(self, deliveries: list[Delivery]) -> None:
        for connection, data, works in deliveries:
            connection.answered(data, works)
        if self._stalled and not self._inbox.full:
            stalled, self._stalled = self._stalled, set()
            for connection in stalled:
                connection.process()

    def stalled(self, connection: Connection) -> None:
        """A connection is not read because the inbox is full: let it go on when it is not."""
        self._stalled.add(connection)

    def deliver_events(self, connection: Any, data: bytes) -> None:
        """Hand a notification to its connection. From any thread."""
        self._loop.call_soon_threadsafe(connection.send, data)

    def deliver_read(self, connection: Connection, data: bytes, work: Work) -> None:
        """Hand a read's answer to its connection. From any thread."""
        self._loop.call_soon_threadsafe(connection.answered, data, [work])

    # --- the end ---------------------------------------------------------------------------

    def look_after(self, now: float) -> None:
        """The regular look at every connection."""
        for connection in list(self.connections):
            connection.look_after(now)

    def stop_reading(self) -> None:
        """Read nothing more from anybody."""
        self.state = State.STOPPING
        for connection in self.connections:
            connection.stop_reading()

    @property
    def pending(self) -> int:
        """Requests that were read and are not answered yet."""
        return sum(connection.pending for connection in self.connections)

    @property
    def unsent(self) -> int:
        """Bytes of answers that the sockets have not taken yet."""
        return sum(
            connection.transport.get_write_buffer_size()
            for connection in self.connections
            if not connection.closed
        )

    def close_all(self) -> None:
        """Close every connection; who comes back says hello again."""
        for connection in list(self.connections):
            connection.close()

    def clients(self) -> list[dict[str, Any]]:
        """Who is connected, for people."""
        return [
            {
                "pid": connection.peer.pid or None,
                "uid": connection.peer.uid,
                "program": connection.program,
                "since": connection.opened_at,
                "requests": connection.requests,
                "pending": connection.pending,
            }
            for connection in self.connections
        ]


def _same_process(older: Credentials, newer: Credentials) -> bool:
    return (older.pid, older.uid) == (newer.pid, newer.uid)
