"""What travels between the event loop, the writer and the read pool."""

from enum import Enum, auto
from typing import Any, Final, Protocol

import msgspec

from sessiond_protocol.errors import Code, Failure, WireError
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.base import Kind

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

    @property
    def kind(self) -> Kind:
        """Who answers this request."""
        return self.request.KIND


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


def refusal(code: Code, message: str, **data: Any) -> Outcome:
    """An outcome that decides nothing: the same number may be sent again."""
    return Outcome(Fate.REFUSED, error=(code.value, message, {"applied": False, **data}))
