"""MessagePack-RPC frames: bytes in, frames out, and back.

A request is ``[0, msgid, method, params]``, a response ``[1, msgid, error, result]``, a
notification ``[2, method, params]``. ``params`` is an array: first one map of named arguments,
then optionally one map that says where the request stands (:class:`Place`). The source of the
frame format is the public MessagePack-RPC specification.

Frames are found with ``Unpacker.skip()``, which builds nothing: a small frame can describe
gigabytes of empty arrays, and only the typed decoding of a slice is safe against that.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Annotated, Any, Final, Literal

import msgpack
import msgspec

from sessiond_protocol.errors import WireError

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


class PlacedFrame(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False
):
    """A request as nearly every client sends it: arguments, still encoded, and a place."""

    kind: Literal[0]
    msgid: int
    method: msgspec.Raw
    params: tuple[msgspec.Raw, Place]


class ResponseFrame(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False
):
    """A response as it came: ``error`` and ``result`` still encoded."""

    kind: Literal[1]
    msgid: int
    error: WireError | None
    result: msgspec.Raw


class NotificationFrame(msgspec.Struct, frozen=True, array_like=True):
    """A notification as it came."""

    kind: int
    method: msgspec.Raw
    params: list[msgspec.Raw]


AnyRequestFrame = RequestFrame | PlacedFrame
Frame = AnyRequestFrame | ResponseFrame | NotificationFrame

_decode_request = msgspec.msgpack.Decoder(RequestFrame).decode
_decode_placed = msgspec.msgpack.Decoder(list[PlacedFrame]).decode
_decode_responses = msgspec.msgpack.Decoder(list[ResponseFrame]).decode
_decode_response = msgspec.msgpack.Decoder(ResponseFrame).decode
_decode_notification = msgspec.msgpack.Decoder(NotificationFrame).decode
decode_place = msgspec.msgpack.Decoder(Place).decode

_UNBOUNDED: Final = 2**63

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


def decode_frames(data: bytes, sizes: list[int]) -> Iterable[Frame]:
    """Whole frames that follow each other, of so many bytes each; see :func:`decode_frame`.

    Frames of one kind are decoded together, as an array of them. Otherwise a frame is decoded
    when it is asked for, so that what came before a broken one is not lost.
    """
    head = data[:2]
    if len(sizes) > 1 and head in (_REQUEST_HEAD, _RESPONSE_HEAD):
        starts = accumulate(sizes[:-1], initial=0)
        if all(data.startswith(head, start) for start in starts):
            array = array_of((data,), len(sizes))
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return _decode_placed(array) if head == _REQUEST_HEAD else _decode_responses(array)
    return _one_by_one(data, sizes)


def array_of(values: Sequence[bytes | msgspec.Raw], count: int | None = None) -> bytes:
    """An array of values that are encoded already, ``count`` of them if not one in each piece."""
    length = len(values) if count is None else count
    return b"".join((b"\xdd", length.to_bytes(4), *values))


def _one_by_one(data: bytes, sizes: list[int]) -> Iterator[Frame]:
    start = 0
    for size in sizes:
        yield decode_frame(data[start : start + size])
        start += size


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

    ``feed`` takes any piece of the stream, ``next_frames`` gives the bytes of complete frames.
    Whoever stops asking for frames stops the decoding, too.
    """

    __slots__ = ("_ahead", "_base", "_buffer", "_done", "_error", "_limit", "_unpacker")

    def __init__(self, max_frame_bytes: int) -> None:
        self._limit = max_frame_bytes
        self._buffer = bytearray()
        self._base = 0  # the stream offset of the buffer's first byte
        self._done = 0  # how much of the buffer has been given out
        self._ahead = 0  # the size of the next frame, if it was measured already
        self._error: FrameError | None = None  # what comes after the frames given out
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
        """The next complete frame, or None while it is not all here; raises as below."""
        frame, sizes = self.next_frames(1)
        return frame if sizes else None

    def next_frames(self, most: int, large: int = _UNBOUNDED) -> tuple[bytes, list[int]]:
        """The next complete frames in one piece, ``most`` of them at most, and their sizes.

        A frame of more than ``large`` bytes comes alone. Raises :class:`FrameError` for bytes
        that are not MessagePack and for a frame over the limit, after what came before them.
        """
        if self._error is not None:
            raise self._error
        sizes: list[int] = []
        start = end = self._done
        try:
            while len(sizes) < most and (size := self._measure(end)):
                if size > large and sizes:
                    self._ahead = size
                    break
                sizes.append(size)
                end += size
                if size > large:
                    break
        except FrameError as error:
            self._error = error
            if not sizes:
                raise
        self._done = end
        return bytes(self._buffer[start:end]), sizes

    def _measure(self, start: int) -> int:
        """The size of the frame that begins there; 0 while it is not all here."""
        if self._ahead:
            size, self._ahead = self._ahead, 0
            return size
        here = len(self._buffer) - start
        if not here:
            return 0
        try:
            self._unpacker.skip()
        except msgpack.OutOfData:
            if here > self._limit:
                raise self._too_large(here) from None
            return 0
        except Exception as error:
            raise FrameError(f"not MessagePack: {str(error) or type(error).__name__}") from error
        whole: int = self._unpacker.tell() - self._base - start
        if whole > self._limit:
            raise self._too_large(whole)
        return whole

    def _too_large(self, size: int) -> FrameError:
        return FrameError(f"message of {size} bytes exceeds max_request_bytes {self._limit}")


def request(msgid: int, method: str, arguments: bytes, place: Place | None) -> bytes:
    """A request's bytes; ``arguments`` is the encoded map of named arguments."""
    raw = msgspec.Raw(arguments)
    return pack((REQUEST, msgid, method, (raw,) if place is None else (raw, place)))


def response(msgid: int, result: Any) -> bytes:
    """A response that carries a result."""
    return pack((RESPONSE, msgid, None, result))


# What a response says: nil or an error, then the result.
Answer = tuple[int, int, WireError | None, Any]


def responses(answers: list[Answer]) -> bytes:
    """Responses ``(RESPONSE, msgid, error, result)`` one after the other.

    They are encoded together, as an array, whose head is then left out.
    """
    count = len(answers)
    head = 1 if count < 16 else 3 if count < 65_536 else 5
    return pack(answers)[head:]


def error_response(msgid: int, error: WireError) -> bytes:
    """A response that carries an error ``[code, message, data]``."""
    return pack((RESPONSE, msgid, error, None))


def notification(method: str, argument: Any) -> bytes:
    """A notification with one map of named arguments."""
    return pack((NOTIFICATION, method, (argument,)))
