"""From a frame to a request on its way: which method, its arguments, where it stands.

What does not fit becomes work that carries its failure along: a numbered write still takes its
place in its channel, where the writer decides it.
"""

from typing import Any, ClassVar

import msgpack
import msgspec

from sessiond.work import Work
from sessiond_protocol import wire
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.receipts import digest
from sessiond_protocol.requests import REQUESTS, Kind, Request

# A method name may come as text or as bytes: both encodings lead to the same request.
_BY_ENCODED_NAME: dict[bytes, type[Request[Any]]] = {
    wire.pack(name): request for text, request in REQUESTS.items() for name in (text, text.encode())
}
_DECODERS = {request: msgspec.msgpack.Decoder(request).decode for request in REQUESTS.values()}
_NO_ARGUMENTS = wire.pack({})
_SMALL_ENOUGH_TO_BUILD = 65_536


class _Unfit(Request[None], frozen=True):
    """Stands for a request that could not be decoded, until its failure is told."""


class _UnfitWrite(Request[None], frozen=True):
    """The same for a write: it passes through the writer, where its number is decided."""

    KIND: ClassVar[Kind] = Kind.WRITE


_UNFIT = _Unfit()
_UNFIT_WRITE = _UnfitWrite()


def decode_work(
    peer: Any,
    frame: wire.AnyRequestFrame,
    size: int,
    now: float,
    default_ttl: float,
    max_ttl: float,
) -> Work:
    """A request of a connection, received at ``now`` on the monotonic clock.

    ``size`` is the frame's, in bytes; the other times are seconds.
    """
    request_type = _BY_ENCODED_NAME.get(bytes(frame.method))
    try:
        if request_type is None:
            raise Failure(Code.UNKNOWN_METHOD, f"unknown method {_name_of(frame.method)}")
        arguments, place = _params(frame)
    except Failure as failure:
        return Work(peer, frame.msgid, _UNFIT, now, now, size, failure=failure)
    ttl = default_ttl if place is None or place.ttl is None else place.ttl
    work = Work(
        peer,
        frame.msgid,
        _UNFIT_WRITE if request_type.KIND is Kind.WRITE else _UNFIT,
        now,
        now + (ttl if ttl <= max_ttl else max_ttl),
        size,
    )
    if place is not None:
        _stand(work, request_type, arguments, place)
    try:
        work.request = _DECODERS[request_type](arguments)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        work.failure = _explain(request_type, arguments, error)
    return work


def _stand(
    work: Work, request_type: type[Request[Any]], arguments: bytes, place: wire.Place
) -> None:
    """Note where a request stands: a write's number, or the number a read waits for."""
    if request_type.KIND is Kind.READ:
        work.seq = place.after
    elif request_type.KIND is Kind.WRITE and work.peer.client_id is not None:
        work.seq = place.seq
        work.floor = place.floor or 0
        if work.seq is not None:
            work.digest = digest(request_type.METHOD, arguments)


def _name_of(method: msgspec.Raw) -> str:
    try:
        return repr(msgspec.msgpack.decode(method))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "that is not text"


def _params(frame: wire.AnyRequestFrame) -> tuple[bytes, wire.Place | None]:
    if isinstance(frame, wire.PlacedFrame):
        # A copy: what is decoded from it must not keep the bytes of other requests.
        return bytes(frame.params[0]), frame.params[1]
    params = frame.params
    if len(params) > 2:
        raise Failure(
            Code.INVALID_PARAMS,
            f"params has {len(params)} elements, one map of named arguments is expected"
            " and, after it, at most one that says where the request stands",
        )
    arguments = bytes(params[0]) if params else _NO_ARGUMENTS
    if len(params) < 2:
        return arguments, None
    try:
        return arguments, wire.decode_place(params[1])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure(Code.INVALID_PARAMS, f"second element of params: {error}") from error


def _explain(request_type: type[Request[Any]], arguments: bytes, error: Exception) -> Failure:
    """An error that names the field and what is allowed."""
    if isinstance(error, UnicodeDecodeError):
        where = _broken_text(arguments)
        return Failure(
            Code.INVALID_PARAMS, f"{request_type.METHOD}: text that is not valid UTF-8{where}"
        )
    known = ", ".join(request_type.__struct_fields__) or "none"
    return Failure(Code.INVALID_PARAMS, f"{request_type.METHOD}: {error} (arguments: {known})")


def _broken_text(arguments: bytes) -> str:
    """Which argument holds bytes that are not UTF-8; found the slow way, for small requests."""
    if len(arguments) > _SMALL_ENOUGH_TO_BUILD:
        return ""
    try:
        values = msgpack.unpackb(arguments, unicode_errors="surrogateescape")
    except (ValueError, msgpack.UnpackException):
        return ""
    path = _path_to_surrogate(values, "$")
    return f" - at `{path}`" if path else ""


def _path_to_surrogate(value: Any, path: str) -> str | None:
    if isinstance(value, str):
        return path if any("\ud800" <= letter <= "\udfff" for letter in value) else None
    items: Any = ()
    if isinstance(value, dict):
        items = ((f".{key}", each) for key, each in value.items())
    elif isinstance(value, list):
        items = ((f"[{index}]", each) for index, each in enumerate(value))
    found = (_path_to_surrogate(each, path + step) for step, each in items)
    return next((each for each in found if each is not None), None)
