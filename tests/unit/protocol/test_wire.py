"""Frames: cut out of a stream that comes in any pieces, decoded, and refused."""

import math
import resource
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol import wire
from sessiond_protocol.wire import (
    FrameError,
    FrameReader,
    NotificationFrame,
    Place,
    RequestFrame,
    ResponseFrame,
)

ARGUMENTS = wire.pack({"session_id": "s", "text": "ü" * 300})
PLACE = Place(seq=7, floor=3, ttl=1.5)

MESSAGES = {
    "request": wire.request(1, "message.append", ARGUMENTS, None),
    "request with its place": wire.request(2**32 - 1, "message.append", ARGUMENTS, PLACE),
    "request without params": msgpack.packb([0, 3, "server.ping", []]),
    "response": wire.response(1, {"rows": [[1, "a"], [2, None]]}),
    "empty response": wire.response(1, None),
    "error": wire.error_response(1, ("integrity", "no such session", {"session_id": "s"})),
    "error without data": wire.error_response(0, ("too_large", "too large", None)),
    "notification": wire.notification("feed.events", {"cursor": 5}),
}
KINDS = {
    "request": RequestFrame,
    "request with its place": RequestFrame,
    "request without params": RequestFrame,
    "response": ResponseFrame,
    "empty response": ResponseFrame,
    "error": ResponseFrame,
    "error without data": ResponseFrame,
    "notification": NotificationFrame,
}


def reader(limit: int = 1_000_000) -> FrameReader:
    return FrameReader(limit)


def frames_of(source: FrameReader) -> list[bytes]:
    """Every frame that is complete."""
    found = []
    while (frame := source.next_frame()) is not None:
        found.append(frame)
    return found


# --- every message, in any pieces --------------------------------------------------------------


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_comes_whole(name: str) -> None:
    source = reader()
    source.feed(MESSAGES[name])
    assert frames_of(source) == [MESSAGES[name]]
    assert source.waiting == 0


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_comes_byte_by_byte(name: str) -> None:
    message, source = MESSAGES[name], reader()
    for place in range(len(message) - 1):
        source.feed(message[place : place + 1])
        assert source.next_frame() is None
        assert source.waiting == place + 1
    source.feed(message[-1:])
    assert frames_of(source) == [message]


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_of_the_next_message_wait(name: str) -> None:
    message, source = MESSAGES[name], reader()
    source.feed(message + message[:3])
    assert frames_of(source) == [message]
    assert source.waiting == 3
    source.feed(message[3:])
    assert frames_of(source) == [message]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_decoded_as_what_it_is(name: str) -> None:
    assert type(wire.decode_frame(MESSAGES[name])) is KINDS[name]


@given(
    names=st.lists(st.sampled_from(sorted(MESSAGES)), max_size=8),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
)
def test_any_pieces_give_the_same_messages(names: list[str], cuts: list[int]) -> None:
    stream = b"".join(MESSAGES[name] for name in names)
    ends = [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    source, start, found = reader(), 0, []
    for end in ends:
        source.feed(stream[start:end])
        start = end
        found += frames_of(source)
    assert found == [MESSAGES[name] for name in names]
    assert source.waiting == 0


def test_whoever_stops_asking_stops_the_decoding() -> None:
    source = reader()
    source.feed(MESSAGES["response"] * 2 + b"\xc1")  # never MessagePack, but nobody asks for it
    assert source.next_frame() == MESSAGES["response"]
    source.feed(b"\xc1")
    assert source.next_frame() == MESSAGES["response"]
    with pytest.raises(FrameError):
        source.next_frame()


# --- what is inside ----------------------------------------------------------------------------


def test_a_request_carries_its_arguments_as_they_were_sent() -> None:
    frame = wire.decode_frame(MESSAGES["request with its place"])
    assert isinstance(frame, RequestFrame)
    assert frame.msgid == 2**32 - 1
    assert bytes(frame.method) == wire.pack("message.append")
    assert bytes(frame.params[0]) == ARGUMENTS
    assert wire.decode_place(frame.params[1]) == PLACE


def test_a_response_carries_a_result_or_an_error() -> None:
    good = wire.decode_frame(MESSAGES["response"])
    bad = wire.decode_frame(MESSAGES["error"])
    assert isinstance(good, ResponseFrame)
    assert isinstance(bad, ResponseFrame)
    assert good.error is None
    assert msgspec.msgpack.decode(good.result) == {"rows": [[1, "a"], [2, None]]}
    assert bad.error == ("integrity", "no such session", {"session_id": "s"})
    assert msgspec.msgpack.decode(bad.result) is None


def test_other_encoders_are_understood() -> None:
    """A method as bytes, wide integers, tuples: other languages' libraries send these."""
    frame = wire.decode_frame(b"\x94\x00\xcd\x00\x05\xc4\x01m\x91\x80")
    assert isinstance(frame, RequestFrame)
    assert (frame.msgid, bytes(frame.method)) == (5, b"\xc4\x01m")


def test_frames_stand_as_the_specification_says() -> None:
    assert msgpack.unpackb(wire.request(5, "a.b", wire.pack({"x": 1}), Place(after=4))) == [
        0, 5, "a.b", [{"x": 1}, {"after": 4}],
    ]  # fmt: skip
    assert msgpack.unpackb(wire.response(5, [1])) == [1, 5, None, [1]]
    assert msgpack.unpackb(wire.error_response(5, ("c", "m", None))) == [
        1,
        5,
        ["c", "m", None],
        None,
    ]
    assert msgpack.unpackb(wire.notification("n", {"x": 1})) == [2, "n", [{"x": 1}]]


@pytest.mark.parametrize(
    "place",
    [
        {"seq": 0}, {"seq": -1}, {"seq": 2**63}, {"seq": 1.5}, {"seq": "1"}, {"seq": True},
        {"floor": 0}, {"floor": 2**63}, {"after": 0}, {"after": 2**64 - 1},
        {"ttl": -0.1}, {"ttl": math.nan}, {"ttl": "1"}, {"other": 1}, [], None,
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(place: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.decode_place(msgpack.packb(place))


@given(
    st.builds(
        Place,
        seq=st.none() | st.integers(1, 2**63 - 1),
        floor=st.none() | st.integers(1, 2**63 - 1),
        after=st.none() | st.integers(1, 2**63 - 1),
        ttl=st.none() | st.floats(0, allow_nan=False),
    )
)
def test_a_place_comes_back_as_it_was(place: Place) -> None:
    assert wire.decode_place(wire.pack(place)) == place


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None, 1, "text", b"bytes", [], {}, [0], [0, 1, "m"], [0, 1, "m", {}],
        [0, "1", "m", []], [0, 1, "m", [], 5], [3, 1, "m", []], [-1, 1, "m", []],
        [True, 1, "m", []],
        [1, 1, None], [1, 1, "text", None], [1, 1, ["c", "m"], None], [1, 1, [1, 2, 3], None],
        [1, 1, ["c", "m", []], None], [2, "m"], [2, "m", {}], [2, "m", [], 1], {0: 1},
    ],
)  # fmt: skip
def test_what_is_not_messagepack_rpc_is_a_frame_error(value: Any) -> None:
    with pytest.raises(FrameError, match="not a MessagePack-RPC message"):
        wire.decode_frame(msgpack.packb(value))


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x94\x00\x01\xc1", b"\x92\xc1"])
def test_what_is_not_messagepack_is_a_frame_error(garbage: bytes) -> None:
    source = reader()
    source.feed(garbage)
    with pytest.raises(FrameError, match="not MessagePack"):
        source.next_frame()


def test_text_of_another_protocol_is_refused_at_once() -> None:
    source = reader()
    source.feed(b"GET / HTTP/1.1\r\n\r\n")
    frame = source.next_frame()
    assert frame is not None
    with pytest.raises(FrameError):
        wire.decode_frame(frame)


def test_a_frame_at_the_limit_passes_and_one_over_it_does_not() -> None:
    message = MESSAGES["request"]
    source = reader(len(message))
    source.feed(message)
    assert source.next_frame() == message
    source = reader(len(message) - 1)
    source.feed(message)
    expected = f"message of {len(message)} bytes exceeds max_request_bytes {len(message) - 1}"
    with pytest.raises(FrameError, match=expected):
        source.next_frame()


def test_a_frame_is_too_large_before_it_is_all_here() -> None:
    source = reader(100)
    source.feed(b"\x94\x00\x01\xa1m\x91\xc6\x00\x10\x00\x00")  # a megabyte is announced
    assert source.next_frame() is None
    source.feed(b"x" * 90)
    with pytest.raises(FrameError, match="message of 101 bytes exceeds max_request_bytes 100"):
        source.next_frame()


def test_the_limit_is_for_one_frame_not_for_what_waits() -> None:
    message = MESSAGES["request"]
    source = reader(len(message))
    source.feed(message * 50)
    assert frames_of(source) == [message] * 50


@pytest.mark.parametrize("head", [b"\xc6", b"\xdb", b"\xdd", b"\xdf", b"\xc9"])
def test_a_huge_declared_length_costs_nothing(head: bytes) -> None:
    """Text, bytes, arrays, maps, extensions of 4 GiB: announced is not sent."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = reader(1000)
    source.feed(b"\x94\x00\x01\xa1m\x91" + head + b"\xff\xff\xff\xfe" + b"\x00" * 2000)
    with pytest.raises(FrameError):
        source.next_frame()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize("depth", [10, 500, 1000, 1020, 5000, 100_000])
@pytest.mark.parametrize("opener", [b"\x91", b"\x81\x01"])
def test_nesting_is_either_read_or_refused(depth: int, opener: bytes) -> None:
    source = reader()
    source.feed(b"\x94\x00\x01\xa1m\x91" + opener * depth + b"\xc0")
    try:
        frame = source.next_frame()
        assert frame is not None
        decoded = wire.decode_frame(frame)
    except FrameError:
        assert depth > 500
    else:
        assert isinstance(decoded, RequestFrame)
        assert bytes(decoded.params[0]) == opener * depth + b"\xc0"


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_arbitrary_bytes_raise_frame_errors_only(pieces: list[bytes]) -> None:
    source = reader(100)
    try:
        for piece in pieces:
            source.feed(piece)
            for frame in frames_of(source):
                wire.decode_frame(frame)
    except FrameError:
        pass
    else:
        assert source.waiting <= 100


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(values)
def test_arbitrary_values_are_messages_or_frame_errors(value: Any) -> None:
    data = msgpack.packb(value)
    source = reader()
    source.feed(data)
    assert frames_of(source) == [data]
    try:
        frame = wire.decode_frame(data)
    except FrameError:
        return
    assert isinstance(frame, RequestFrame | ResponseFrame | NotificationFrame)


@given(
    kind=st.sampled_from([0, 1, 2]),
    parts=st.lists(values, min_size=2, max_size=3),
    broken=st.integers(0, 200),
)
def test_nearly_right_messages_raise_frame_errors_only(
    kind: int, parts: list[Any], broken: int
) -> None:
    data = bytearray(msgpack.packb([kind, *parts]))
    data[broken % len(data)] ^= 0x80
    source = reader()
    source.feed(bytes(data))
    try:
        for frame in frames_of(source):
            wire.decode_frame(frame)
    except FrameError:
        return


@given(st.integers(0, 2**32 - 1), st.binary(max_size=40), st.integers(0, 3))
def test_a_whole_message_is_recognised_only_alone(msgid: int, tail: bytes, cut: int) -> None:
    request = wire.request(msgid, "message.append", wire.pack({"a": 1}), wire.Place(seq=1))
    response = wire.response(msgid, [1, "two"])
    for data, whole in ((request, wire.whole_request), (response, wire.whole_response)):
        assert whole(data) == wire.decode_frame(data)
        if tail:
            assert whole(data + tail) is None
        if cut:
            assert whole(data[:-cut]) is None
    assert wire.whole_request(response) is None
    assert wire.whole_response(request) is None
