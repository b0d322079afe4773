"""Requests about the daemon itself, and the one that joins several writes."""

from typing import Any, ClassVar

import msgspec

from sessiond_protocol.requests.base import Count, Kind, Request


class DatabaseFile(msgspec.Struct, frozen=True):
    """Which file a daemon serves."""

    path: str
    device: int
    inode: int


class Limits(msgspec.Struct, frozen=True):
    """What the daemon allows; bytes and counts."""

    max_request_bytes: int
    max_undecided: int


class Welcome(msgspec.Struct, frozen=True):
    """The answer to hello.

    ``known`` says whether the daemon has state of this channel, ``last`` is the highest number
    it has decided, ``generation`` changes when the file's history changed behind the clients.
    """

    protocol: int
    version: str
    schema_version: int
    database: DatabaseFile
    limits: Limits
    generation: bytes
    known: bool
    last: int
    settings: dict[str, Any] = {}


class ServerHello(Request[Welcome], frozen=True):
    """Open a channel, or take it up again after a lost connection.

    ``acked`` is the highest number that was answered, ``sent`` the highest that was sent,
    ``floor`` the lowest still outstanding. ``database`` is the file that the client means.
    """

    METHOD: ClassVar[str] = "server.hello"
    KIND: ClassVar[Kind] = Kind.WRITER
    protocol: int
    client: str = ""
    client_id: bytes | None = None
    pid: int = 0
    database: str | None = None
    acked: Count = 0
    sent: Count = 0
    floor: Count = 1


class ServerPing(Request[None], frozen=True):
    """Answered by the writer: it is alive and reaches its inbox."""

    METHOD: ClassVar[str] = "server.ping"
    KIND: ClassVar[Kind] = Kind.WRITER


class ServerStats(Request[dict[str, Any]], frozen=True):
    """Counters, gauges and histograms."""

    METHOD: ClassVar[str] = "server.stats"
    KIND: ClassVar[Kind] = Kind.CONTROL


class RequestStatus(Request[str], frozen=True):
    """What became of a number: ``applied``, ``failed``, ``not_applied`` or ``unknown``."""

    METHOD: ClassVar[str] = "request.status"
    KIND: ClassVar[Kind] = Kind.WRITER
    client_id: bytes
    seq: Count


class ChangeCounter(Request[list[Any]], frozen=True):
    """``[generation, commits]``: differs after any commit of the daemon."""

    METHOD: ClassVar[str] = "server.change_counter"


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One write of a batch: its method and its map of arguments."""

    method: str
    arguments: msgspec.Raw


class BatchApply(Request[list[Any]], frozen=True):
    """Several writes as one: all or none. The answer has one result per item."""

    METHOD: ClassVar[str] = "batch.apply"
    KIND: ClassVar[Kind] = Kind.WRITE
    IN_BATCH: ClassVar[bool] = False
    items: list[Item]
