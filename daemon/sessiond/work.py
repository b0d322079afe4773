"""What travels between the event loop, the writer and the read pool."""

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from itertools import accumulate, repeat
from typing import Any, Final, Protocol

import msgspec

from sessiond_protocol import wire
from sessiond_protocol.errors import Code, Failure, WireError
from sessiond_protocol.receipts import DIGEST_BYTES
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.base import Kind
from sessiond_protocol.requests.message import MessageAppend

# Stands for the answer to a request whose answer follows later.
PARKED: Final = object()


class Peer(Protocol):
    """The connection a request came from, as far as the writer knows it."""

    closed: bool
    client_id: bytes | None


class Work:
    """One request on its way: who asked, what, where it stands and until when it is wanted.

    ``channel`` is its connection's channel when it was read: a later hello may open another.
    ``seq`` is None for a write outside a channel. ``deadline`` is on the monotonic clock.
    ``size`` is the request's share of the inbox's bounds, in bytes.
    """

    __slots__ = (
        "channel",
        "deadline",
        "digest",
        "failure",
        "floor",
        "msgid",
        "peer",
        "received",
        "request",
        "seq",
        "size",
    )

    def __init__(
        self,
        peer: Any,
        msgid: int,
        request: Request[Any],
        received: float,
        deadline: float,
        size: int,
        seq: int | None = None,
        floor: int = 0,
        digest: bytes = b"",
        failure: Failure | None = None,
    ) -> None:
        self.peer = peer
        self.channel: bytes | None = peer.client_id
        self.msgid = msgid
        self.request = request
        self.received = received
        self.deadline = deadline
        self.size = size
        self.seq = seq
        self.floor = floor
        self.digest = digest
        self.failure = failure  # a write that could not be decoded still takes its number

    count: Final = 1  # requests that this is

    @property
    def kind(self) -> Kind:
        """Who answers this request."""
        return self.request.KIND

    @property
    def method(self) -> str:
        """What is asked for."""
        return self.request.METHOD


class Burst:
    """Appends of one channel that came in one piece, under consecutive numbers.

    ``seq`` is the first number; ``msgids``, ``requests``, ``sizes``, ``floors`` and ``ttls``
    (seconds) are of each append, and so is ``digests``, in one piece. ``deadline`` is that of
    the least patient. They can be applied as one, or as :meth:`works`, one by one.
    """

    __slots__ = (
        "channel",
        "count",
        "deadline",
        "digests",
        "floors",
        "msgids",
        "peer",
        "received",
        "requests",
        "seq",
        "size",
        "sizes",
        "ttls",
    )

    kind: Final = Kind.WRITE
    method: Final = MessageAppend.METHOD

    def __init__(
        self,
        peer: Any,
        msgids: list[int],
        requests: list[MessageAppend],
        received: float,
        sizes: list[int],
        seq: int,
        floors: list[int],
        digests: bytes,
        ttls: list[float],
    ) -> None:
        self.peer = peer
        self.channel: bytes = peer.client_id
        self.count = len(requests)
        self.msgids = msgids
        self.requests = requests
        self.received = received
        self.sizes = sizes
        self.size = sum(sizes)
        self.seq = seq
        self.floors = floors
        self.digests = digests
        self.ttls = ttls
        self.deadline = received + min(ttls)

    def split(self, count: int, size: int) -> "tuple[Burst, Burst | None]":
        """As many appends as reach one of these bounds, at least one, and the rest."""
        if self.count > count or self.size > size:
            reached = accumulate(self.sizes[: max(1, count)])
            here = next((n for n, bytes_ in enumerate(reached, 1) if bytes_ >= size), max(1, count))
            if here < self.count:
                return self._part(0, here), self._part(here, self.count)
        return self, None

    def _part(self, start: int, end: int) -> "Burst":
        part = Burst(
            self.peer,
            self.msgids[start:end],
            self.requests[start:end],
            self.received,
            self.sizes[start:end],
            self.seq + start,
            self.floors[start:end],
            self.digests[start * DIGEST_BYTES : end * DIGEST_BYTES],
            self.ttls[start:end],
        )
        part.channel = self.channel
        return part

    def works(self) -> list[Work]:
        """The same appends, each by itself."""
        made = []
        each = zip(self.msgids, self.requests, self.ttls, self.sizes, self.floors, strict=True)
        for index, (msgid, request, ttl, size, floor) in enumerate(each):
            start = index * DIGEST_BYTES
            identity = self.digests[start : start + DIGEST_BYTES]
            work = Work(
                self.peer,
                msgid,
                request,
                self.received,
                self.received + ttl,
                size,
                self.seq + index,
                floor,
                identity,
            )
            work.channel = self.channel
            made.append(work)
        return made


Entry = Work | Burst


def requests_in(entries: Iterable[Entry]) -> int:
    """How many requests these are."""
    return sum(entry.count for entry in entries)


def one_by_one(entries: Iterable[Entry]) -> list[Work]:
    """Every request by itself, in the same order."""
    works: list[Work] = []
    for entry in entries:
        if isinstance(entry, Burst):
            works += entry.works()
        else:
            works.append(entry)
    return works


class Fate(Enum):
    """How a request ended, for the statistics."""

    APPLIED = auto()
    FAILED = auto()
    REFUSED = auto()
    REPLAYED = auto()  # answered from a receipt
    DROPPED = auto()  # below the floor: no answer is wanted


class Outcome:
    """How one request ended: its result, encoded, or its error as it stands on the wire."""

    __slots__ = ("error", "fate", "result")

    def __init__(
        self, fate: Fate, result: msgspec.Raw | None = None, error: WireError | None = None
    ) -> None:
        self.fate = fate
        self.result = result
        self.error = error


class Appended(Outcome):
    """How a burst ended that was applied: its messages have the ids from ``first_id`` on."""

    __slots__ = ("first_id",)

    def __init__(self, first_id: int) -> None:
        super().__init__(Fate.APPLIED)
        self.first_id = first_id

    def answers(self, msgids: Sequence[int]) -> Iterable[wire.Answer]:
        """What each append is told."""
        ids = range(self.first_id, self.first_id + len(msgids))
        return zip(repeat(wire.RESPONSE), msgids, repeat(None), ids, strict=False)


def refusal(code: Code, message: str, **data: Any) -> Outcome:
    """An outcome that decides nothing: the same number may be sent again."""
    return Outcome(Fate.REFUSED, error=(code.value, message, {"applied": False, **data}))
