"""Frames that are cut out and decoded together are what they would have been one by one."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol import wire
from sessiond_protocol.wire import FrameError, FrameReader, PlacedFrame, RequestFrame

ARGUMENTS = wire.pack({"session_id": "s", "text": "ü" * 30})
PLACED = [
    wire.request(number, "message.append", ARGUMENTS, wire.Place(seq=number, floor=1, ttl=2.5))
    for number in range(1, 5)
]
ANSWERS = [wire.response(number, {"rows": [number]}) for number in range(1, 5)]

# What looks nearly like the frames around it.
ODD = {
    "no place": wire.request(9, "message.append", ARGUMENTS, None),
    "no params": msgpack.packb([0, 9, "server.ping", []]),
    "a place that does not fit": msgpack.packb([0, 9, "m", [{}, {"seq": -1}]]),
    "a third element": msgpack.packb([0, 9, "m", [{}, {"seq": 1}, 1]]),
    "a response": wire.response(9, None),
    "a notification": wire.notification("feed.events", {}),
}
BROKEN = {
    "five elements": msgpack.packb([0, 9, "m", [{}, {"seq": 1}], 1]),
    "another kind": msgpack.packb([3, 9, "m", [{}, {"seq": 1}]]),
    "the kind in two bytes": b"\x94\xcc\x00" + PLACED[0][2:],
    "the head in three bytes": b"\xdc\x00\x04" + PLACED[0][1:],
    "no message": msgpack.packb({"a": 1}),
    "a message id that is text": msgpack.packb([0, "9", "m", [{}, {"seq": 1}]]),
}


def plain(frame: wire.Frame) -> Any:
    """A frame as values: a placed one is the request that it stands for."""
    if not isinstance(frame, PlacedFrame):
        return msgpack.unpackb(wire.pack(frame))
    arguments, place = frame.params
    raw = (frame.kind, frame.msgid, frame.method, (arguments, place))
    return msgpack.unpackb(wire.pack(raw))


def together(frames: list[bytes]) -> list[wire.Frame]:
    return list(wire.decode_frames(b"".join(frames), [len(frame) for frame in frames]))


@pytest.mark.parametrize("frames", [PLACED, ANSWERS], ids=["requests", "responses"])
def test_frames_of_one_kind(frames: list[bytes]) -> None:
    assert [plain(each) for each in together(frames)] == [msgpack.unpackb(each) for each in frames]


def test_requests_with_a_place_are_decoded_with_it() -> None:
    (first, *_) = together(PLACED)
    assert isinstance(first, PlacedFrame)
    assert first.params[1] == wire.Place(seq=1, floor=1, ttl=2.5)


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("at", [0, 1, 4])
def test_an_odd_one_among_them(name: str, at: int) -> None:
    frames = [*PLACED[:at], ODD[name], *PLACED[at:]]
    found = together(frames)
    assert [plain(each) for each in found] == [msgpack.unpackb(each) for each in frames]
    assert type(found[at]) is type(wire.decode_frame(ODD[name]))


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("at", [0, 1, 4])
def test_what_comes_before_a_broken_one_is_not_lost(name: str, at: int) -> None:
    with pytest.raises(FrameError):
        wire.decode_frame(BROKEN[name])
    frames = [*PLACED[:at], BROKEN[name], *PLACED[at:]]
    came = iter(wire.decode_frames(b"".join(frames), [len(each) for each in frames]))
    assert [plain(next(came)) for _ in range(at)] == [msgpack.unpackb(each) for each in frames[:at]]
    with pytest.raises(FrameError):
        next(came)


@given(st.lists(st.sampled_from([*PLACED, *ANSWERS, *ODD.values()]), max_size=12))
def test_any_frames(frames: list[bytes]) -> None:
    assert [plain(each) for each in together(frames)] == [msgpack.unpackb(each) for each in frames]


# --- cutting them out --------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 60), max_size=12),
    most=st.integers(1, 5),
    large=st.integers(1, 50),
    cuts=st.lists(st.integers(0, 500), max_size=6),
)
def test_the_pieces_are_the_stream(
    sizes: list[int], most: int, large: int, cuts: list[int]
) -> None:
    frames = [msgpack.packb(b"x" * size) for size in sizes]
    stream = b"".join(frames)
    ends = [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader, start, found = FrameReader(1000), 0, []
    for end in ends:
        reader.feed(stream[start:end])
        start = end
        while True:
            data, cut = reader.next_frames(most, large)
            assert len(data) == sum(cut)
            assert len(cut) <= most
            assert len(cut) <= 1 or max(cut) <= large
            if not cut:
                break
            for size in cut:
                found.append(data[:size])
                data = data[size:]
    assert found == frames
    assert reader.waiting == 0


def test_one_and_several_by_turns() -> None:
    reader = FrameReader(1000)
    reader.feed(b"".join(PLACED))
    assert reader.next_frame() == PLACED[0]
    assert reader.next_frames(2) == (PLACED[1] + PLACED[2], [len(each) for each in PLACED[1:3]])
    assert reader.next_frame() == PLACED[3]
    assert reader.next_frames(2) == (b"", [])


@pytest.mark.parametrize("rest", [b"\xc1", msgpack.packb(b"x" * 2000)], ids=["garbage", "large"])
def test_an_error_comes_after_what_came_before_it_and_stays(rest: bytes) -> None:
    reader = FrameReader(1000)
    reader.feed(b"".join(PLACED) + rest)
    assert len(reader.next_frames(10)[1]) == len(PLACED)
    for _ in range(2):
        with pytest.raises(FrameError):
            reader.next_frames(10)


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 15, 16, 1000, 65_535, 65_536])
def test_answers_are_written_together(count: int) -> None:
    answers: list[wire.Answer] = [(wire.RESPONSE, number, None, number) for number in range(count)]
    assert wire.responses(answers) == b"".join(wire.response(n, n) for n in range(count))


def test_errors_among_the_answers() -> None:
    error = ("integrity", "no such session", {"session_id": "s"})
    answers: list[wire.Answer] = [(wire.RESPONSE, 1, None, 7), (wire.RESPONSE, 2, error, None)]
    assert wire.responses(answers) == wire.response(1, 7) + wire.error_response(2, error)


def test_a_request_is_a_request_either_way() -> None:
    (placed, _) = together(PLACED[:2])
    alone = wire.decode_frame(PLACED[0])
    assert isinstance(placed, PlacedFrame)
    assert isinstance(alone, RequestFrame)
    assert bytes(placed.method) == bytes(alone.method)
    assert bytes(placed.params[0]) == bytes(alone.params[0])
    assert placed.params[1] == wire.decode_place(alone.params[1])
