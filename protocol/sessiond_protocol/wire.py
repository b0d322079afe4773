"""MessagePack-RPC frames: bytes in, frames out, and back.

A request is ``[0, msgid, method, params]``, a response ``[1, msgid, error, result]``, a
notification ``[2, method, params]``. ``params`` is an array: first one map of named arguments,
then optionally one map that says where the request stands (:class:`Place`). The source of the
frame format is the public MessagePack-RPC specification.

Frames are found with ``Unpacker.skip()``, which builds nothing: a small frame can describe
gigabytes of empty arrays, and only the typed decoding of a slice is safe against that.
"""

from typing import Annotated, Any, Final

import msgpack
import msgspec

PROTOCOL_VERSION: Final = 1

REQUEST: Final = 0
RESPONSE: Final = 1
NOTIFICATION: Final = 2

_encoder = msgspec.msgpack.Encoder()
pack = _encoder.encode


class FrameError(Exception):
    """The stream is not MessagePack-RPC, or a frame is larger than allowed.

    The stream cannot be trusted any more: answer once, then close.
    """


# What a column holds. Beyond it a number could be read, but never stored.
_MAX_NUMBER: Final = 2**63 - 1
Number = Annotated[int, msgspec.Meta(ge=1, le=_MAX_NUMBER)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]  # this excludes NaN, too


class Place(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Where a request stands, the second element of ``params``.

    ``seq`` and ``floor`` are a write's number in its channel and the channel's lowest
    outstanding number. ``after`` makes a read wait until that number of its own channel is
    decided. ``ttl`` is how many seconds the caller will go on waiting. None of these belongs to
    the request's identity: they may differ when the same request is sent again.
    """

    seq: Number | None = None
    floor: Number | None = None
    after: Number | None = None
    ttl: Seconds | None = None


class RequestFrame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request as it came: ``method`` and each element of ``params`` still encoded."""

    kind: int
    msgid: int
    method: msgspec.Raw
    params: list[msgspec.Raw]


class ResponseFrame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A response as it came: ``error`` and ``result`` still encoded."""

    kind: int
    msgid: int
    error: tuple[str, str, dict[str, Any] | None] | None
    result: msgspec.Raw


class NotificationFrame(msgspec.Struct, frozen=True, array_like=True):
    """A notification as it came."""

    kind: int
    method: msgspec.Raw
    params: list[msgspec.Raw]


Frame = RequestFrame | ResponseFrame | NotificationFrame

_decode_request = msgspec.msgpack.Decoder(RequestFrame).decode
_decode_response = msgspec.msgpack.Decoder(ResponseFrame).decode
_decode_notification = msgspec.msgpack.Decoder(NotificationFrame).decode
decode_place = msgspec.msgpack.Decoder(Place).decode

# Array heads are one byte up to fifteen elements; the kind is a one-byte integer.
_REQUEST_HEAD: Final = b"\x94\x00"
_RESPONSE_HEAD: Final = b"\x94\x01"
_NOTIFICATION_HEAD: Final = b"\x93\x02"


def decode_frame(data: bytes) -> Frame:
    """One whole frame from its bytes.

    Raises :class:`FrameError` when the value is not a MessagePack-RPC message.
    """
    head = data[:2]
    try:
        if head == _REQUEST_HEAD:
            return _decode_request(data)
        if head == _RESPONSE_HEAD:
            return _decode_response(data)
        if head == _NOTIFICATION_HEAD:
            return _decode_notification(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a MessagePack-RPC message: {error}") from error
    raise FrameError(
        "not a MessagePack-RPC message: expected [0, msgid, method, params], "
        "[1, msgid, error, result] or [2, method, params]"
    )


def whole_request(data: bytes) -> RequestFrame | None:
    """The request that ``data`` is from its first byte to its last; None for anything else."""
    if data[:2] != _REQUEST_HEAD:
        return None
    try:
        return _decode_request(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def whole_response(data: bytes) -> ResponseFrame | None:
    """The response that ``data`` is from its first byte to its last; None for anything else."""
    if data[:2] != _RESPONSE_HEAD:
        return None
    try:
        return _decode_response(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class FrameReader:
    """Cuts a byte stream into frames without building what they hold.

    ``feed`` takes any piece of the stream, ``next_frame`` gives the bytes of the next complete
    frame or None. Whoever stops asking for frames stops the decoding, too.
    """

    __slots__ = ("_base", "_buffer", "_done", "_limit", "_unpacker")

    def __init__(self, max_frame_bytes: int) -> None:
        self._limit = max_frame_bytes
        self._buffer = bytearray()
        self._base = 0  # the stream offset of the buffer's first byte
        self._done = 0  # how much of the buffer has been given out
        self._unpacker = msgpack.Unpacker(max_buffer_size=2**31 - 1)

    @property
    def waiting(self) -> int:
        """Bytes held that have not been given out as frames."""
        return len(self._buffer) - self._done

    def feed(self, data: bytes) -> None:
        """Add a piece of the stream."""
        if self._done:
            del self._buffer[: self._done]
            self._base += self._done
            self._done = 0
        self._buffer += data
        self._unpacker.feed(data)

    def next_frame(self) -> bytes | None:
        """The next complete frame, or None while it is not all here.

        Raises :class:`FrameError` for bytes that are not MessagePack and for a frame over the
        limit.
        """
        if self._done == len(self._buffer):
            return None
        try:
            self._unpacker.skip()
        except msgpack.OutOfData:
            if self.waiting > self._limit:
                raise self._too_large(self.waiting) from None
            return None
        except Exception as error:
            raise FrameError(f"not MessagePack: {str(error) or type(error).__name__}") from error
        end = self._unpacker.tell() - self._base
        size = end - self._done
        if size > self._limit:
            raise self._too_large(size)
        frame = bytes(self._buffer[self._done : end])
        self._done = end
        return frame

    def _too_large(self, size: int) -> FrameError:
        return FrameError(f"message of {size} bytes exceeds max_request_bytes {self._limit}")


def request(msgid: int, method: str, arguments: bytes, place: Place | None) -> bytes:
    """A request's bytes; ``arguments`` is the encoded map of named arguments."""
    raw = msgspec.Raw(arguments)
    return pack((REQUEST, msgid, method, (raw,) if place is None else (raw, place)))


def response(msgid: int, result: Any) -> bytes:
    """A response that carries a result."""
    return pack((RESPONSE, msgid, None, result))


def error_response(msgid: int, error: tuple[str, str, dict[str, Any] | None]) -> bytes:
    """A response that carries an error ``[code, message, data]``."""
    return pack((RESPONSE, msgid, error, None))


def notification(method: str, argument: Any) -> bytes:
    """A notification with one map of named arguments."""
    return pack((NOTIFICATION, method, (argument,)))
