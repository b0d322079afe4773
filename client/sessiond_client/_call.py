"""One request from its caller's view, and how its answer is read."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from sessiond_client._errors import OutcomeUnknown
from sessiond_protocol.errors import Code, WireError
from sessiond_protocol.requests import Request, result_type

# Refusals for a reason of the daemon that passes by itself: the same number is sent again.
PASSING: Final = frozenset({Code.OVERLOADED, Code.SHUTTING_DOWN, Code.OUT_OF_ORDER, Code.MIGRATING})

# Beyond the end of every connection's bytes.
NOT_HERE: Final = 2**63

_encode = msgspec.msgpack.Encoder().encode
_DECODERS: dict[type[Request[Any]], Callable[[msgspec.Raw], Any]] = {}


class Signal:
    """Something that a caller waits for.

    ``deadline`` is on the driver's clock. ``wakers`` are the driver's: each is called once, when
    it is ``done``.
    """

    __slots__ = ("deadline", "done", "wakers")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.done = False
        self.wakers: tuple[Callable[[Any], None], ...] = ()

    def wake(self) -> None:
        """Tell whoever waits, and let go of them.

        A future knows its call: were it kept here, both would stay until the garbage collector
        comes, and a program that sends much would have it come often.
        """
        wakers, self.wakers = self.wakers, ()
        for wake in wakers:
            wake(self)


class Call(Signal):
    """One request from its caller's view. It is done with either ``result`` or ``error``.

    The rest is the link's own. ``end``: where the call's bytes end among those of its connection;
    ``exposed``: whether all of them left on a connection that was lost, so that the daemon may
    have read them. ``then`` is called at once when the call is done, before anything else that
    arrived is looked at.
    """

    __slots__ = (
        "arguments",
        "end",
        "error",
        "exposed",
        "kind",
        "msgid",
        "refused",
        "request_type",
        "result",
        "sent",
        "seq",
        "then",
    )

    def __init__(self, request: Request[Any], deadline: float) -> None:
        super().__init__(deadline)
        self.request_type = type(request)
        self.kind = request.KIND
        self.arguments = _encode(request)
        self.msgid = 0
        self.seq: int | None = None
        self.sent = False
        self.end = NOT_HERE
        self.exposed = False
        self.refused = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.then: Callable[[Call], None] | None = None

    def value(self) -> Any:
        """The result of a call that is done; raises its error."""
        if self.error is not None:
            raise self.error
        return self.result

    def unknown(self, client_id: bytes, why: str) -> OutcomeUnknown:
        """The error of a write that may or may not have been applied."""
        return OutcomeUnknown(
            f"nobody can say whether {self.request_type.METHOD} was applied: {why}",
            {"client_id": client_id, "seq": self.seq},
        )


def by_number(call: Call) -> tuple[int, int]:
    """Writes in the order of their numbers, then everything else as it was sent."""
    return (call.seq if call.seq is not None else 2**63, call.msgid)


def is_refusal(call: Call, error: WireError) -> bool:
    """Whether this error decides nothing, so that the same may be sent again."""
    if call.seq is None:
        return error[0] in PASSING
    return (error[2] or {}).get("applied", True) is False


def decode_result(request_type: type[Request[Any]], result: msgspec.Raw) -> Any:
    """A result in the type that its request declares; raises ``msgspec.DecodeError``."""
    decode = _DECODERS.get(request_type)
    if decode is None:
        wanted = result_type(request_type)
        decode = _DECODERS[request_type] = msgspec.msgpack.Decoder(wanted).decode
    return decode(result)
