"""Appends that came in one piece: what is taken as one, and that it is what each was."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.work import Appended, Entry, Work, one_by_one, requests_in
from sessiond_protocol import wire
from sessiond_protocol.receipts import digest
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import Message, MessageAppend, MessageClear
from sessiond_protocol.requests.session import SessionGet
from tests.unit.daemon.sending import (
    CLIENT,
    OTHER,
    PEER,
    Peer,
    burst,
    fields,
    frame,
    maybe_burst,
    singly,
    sized,
    texts,
)
from tests.unit.daemon.stores import appending, works

# --- what is taken as one ----------------------------------------------------------------------


def placed(seq: int | None, request: Request[Any] | None = None, **place: Any) -> bytes:
    return frame(request or appending("s", "text"), 7, seq, **place)


def raw(seq: int, arguments: Any, method: Any = "message.append") -> bytes:
    """A request of which nothing is checked on its way out."""
    body = msgpack.packb(
        [0, 7, method, [arguments, {"seq": seq}]], unicode_errors="surrogateescape"
    )
    assert isinstance(body, bytes)
    return body


def arguments(**message: Any) -> dict[str, Any]:
    return {"session_id": "s", "message": {"role": "user", "timestamp": 1.0, **message}}


def test_appends_of_a_channel_under_consecutive_numbers_are_one() -> None:
    requests = [appending("st"[number % 2], f"größer {number}") for number in range(5)]
    frames = [frame(each, 90 + n, 7 + n, floor=3 + n) for n, each in enumerate(requests)]
    made = maybe_burst(frames, received=12.0, default_ttl=30.0)
    assert made is not None
    assert (made.peer, made.channel, made.kind, made.method) == (
        PEER, CLIENT, MessageAppend.KIND, "message.append",
    )  # fmt: skip
    assert (made.seq, made.count, made.floors) == (7, 5, [3, 4, 5, 6, 7])
    assert (made.msgids, made.requests) == ([90, 91, 92, 93, 94], requests)
    assert (made.received, made.deadline, made.ttls) == (12.0, 42.0, [30.0] * 5)
    assert (made.sizes, made.size) == ([len(each) for each in frames], sum(map(len, frames)))
    assert made.digests == b"".join(digest("message.append", wire.pack(each)) for each in requests)


LOOKED_AT = {
    "a gap": [placed(1), placed(2), placed(4)],
    "disorder": [placed(1), placed(3), placed(2)],
    "the same number": [placed(1), placed(1)],
    "falling numbers": [placed(2), placed(1)],
    "the first without a number": [placed(None, floor=1), placed(1)],
    "one without a number": [placed(1), placed(None, floor=1), placed(2)],
    "none with a number": [placed(None), placed(None)],
    "another write": [placed(1), placed(2, MessageClear("s")), placed(3)],
    "another write at the end": [placed(1), placed(2), placed(3, MessageClear("s"))],
    "a read": [placed(1), placed(None, SessionGet("s"), after=1), placed(2)],
    "a method in bytes": [placed(1), raw(2, arguments(), b"message.append")],
    "a method that is no name": [placed(1), raw(2, arguments(), 17)],
    "a missing argument": [placed(1), raw(2, {"session_id": "s"}), placed(3)],
    "one argument too many": [placed(1), raw(2, {**arguments(), "more": 1})],
    "a field too many": [placed(1), raw(2, arguments(more=1))],
    "an argument of another type": [placed(1), raw(2, arguments(content=5))],
    "a count out of bounds": [placed(1), raw(2, arguments(tool_call_count=-1))],
    "text that is not UTF-8": [placed(1), raw(2, arguments(content="\udcff")), placed(3)],
    "a place that does not fit": [placed(1), msgpack.packb([0, 7, "message.append", [{}, 5]])],
    "no place": [placed(1), wire.request(7, "message.append", wire.pack(arguments()), None)],
    "one alone": [placed(1)],
}


@pytest.mark.parametrize("frames", LOOKED_AT.values(), ids=LOOKED_AT.keys())
def test_what_is_unlike_has_each_looked_at_by_itself(frames: list[bytes]) -> None:
    assert maybe_burst(frames) is None
    assert len(singly(frames)) == len(frames)


@pytest.mark.parametrize("odd", [wire.response(9, None), wire.notification("feed.events", {})])
def test_frames_of_different_kinds_are_not_one(odd: bytes) -> None:
    assert maybe_burst([placed(1), odd, placed(2)]) is None
    assert maybe_burst([odd, odd]) is None


def test_without_a_channel_nothing_is_one() -> None:
    assert maybe_burst([placed(1), placed(2)], Peer(None)) is None


@pytest.mark.parametrize(
    ("ttl", "expected"), [(None, 30.0), (5.0, 5.0), (0.0, 0.0), (60.0, 60.0), (1e9, 60.0)]
)
def test_time_is_up_for_the_least_patient(ttl: float | None, expected: float) -> None:
    frames = [placed(1, ttl=50.0), placed(2, ttl=ttl), placed(3, ttl=55.0)]
    made = maybe_burst(frames, received=1000.0, default_ttl=30.0, max_ttl=60.0)
    assert made is not None
    assert made.ttls == [50.0, expected, 55.0]
    assert made.deadline == 1000.0 + min(50.0, expected)
    assert [each.deadline for each in made.works()] == [1050.0, 1000.0 + expected, 1055.0]


# --- taken apart -------------------------------------------------------------------------------

_messages = st.builds(
    lambda text, key, calls: Message(
        role="user", timestamp=1.0, content=text, message_key=key, tool_call_count=calls
    ),
    st.none() | st.text(max_size=20),
    st.none() | st.text(max_size=3),
    st.integers(0, 3),
)
_appends = st.builds(MessageAppend, st.sampled_from(["s", "größer"]), _messages)
_frames = st.builds(
    lambda first, drawn: [
        frame(request, msgid, first + index, **place)
        for index, (request, msgid, place) in enumerate(drawn)
    ],
    st.integers(1, 2**60),
    st.lists(
        st.tuples(
            _appends,
            st.integers(0, 2**32 - 1),
            st.fixed_dictionaries(
                {},
                optional={
                    "floor": st.integers(1, 2**60),
                    "ttl": st.floats(0, 1e6),
                    "after": st.integers(1, 9),
                },
            ),
        ),
        min_size=2,
        max_size=20,
    ),
)


@given(_frames)
def test_one_by_one_they_are_what_each_frame_is(frames: list[bytes]) -> None:
    made = maybe_burst(frames, PEER, 50.0, 30.0, 1000.0)
    assert made is not None
    expected = singly(frames, PEER, 50.0, 30.0, 1000.0)
    assert list(map(fields, made.works())) == list(map(fields, expected))
    assert made.deadline == min(each.deadline for each in made.works())


def filled(sizes: list[int], count: int, size: int) -> int:
    """How many of them a batch takes that has room for so many requests and bytes."""
    taken = bytes_ = 0
    for each in sizes:
        taken += 1
        bytes_ += each
        if taken >= count or bytes_ >= size:
            break
    return taken


@given(
    sizes=st.lists(st.integers(1, 50), min_size=2, max_size=30),
    count=st.integers(1, 40),
    size=st.integers(-5, 600),
)
def test_it_is_cut_where_a_bound_is_reached(sizes: list[int], count: int, size: int) -> None:
    whole = sized(sizes, seq=11)
    first, rest = whole.split(count, size)
    assert first.count == filled(sizes, count, size)
    assert (rest is None) == (first.count == whole.count)
    parts = [first] if rest is None else [first, rest]
    assert list(map(fields, one_by_one(parts))) == list(map(fields, whole.works()))
    for part in parts:
        assert part.size == sum(part.sizes)
        assert part.count == len(part.requests) == len(part.sizes)


def test_parts_have_their_own_time() -> None:
    frames = [placed(1, ttl=5.0), placed(2, ttl=50.0)]
    made = maybe_burst(frames, received=1.0)
    assert made is not None
    first, rest = made.split(1, 1000)
    assert rest is not None
    assert (first.deadline, rest.deadline) == (6.0, 51.0)


def test_its_channel_is_that_of_when_it_was_read() -> None:
    peer = Peer(CLIENT)
    made = texts(4, peer=peer)
    peer.client_id = OTHER  # it has said hello for another channel since
    first, rest = made.split(2, 10_000)
    assert rest is not None
    assert {each.channel for each in one_by_one([made, first, rest])} == {CLIENT}


def test_a_mixture_is_counted_and_taken_apart_in_its_order() -> None:
    (alone,) = works(appending("s", "alone"))
    made: list[Entry] = [alone, texts(3), alone, texts(2, seq=4)]
    assert requests_in(made) == 7
    apart = one_by_one(made)
    assert all(isinstance(each, Work) for each in apart)
    assert [each.seq for each in apart] == [None, 1, 2, 3, None, 4, 5]


def test_each_append_is_told_its_own_id() -> None:
    told = Appended(40).answers(burst(*[appending("s", "x")] * 3, seq=8).msgids)
    assert list(told) == [(1, 8, None, 40), (1, 9, None, 41), (1, 10, None, 42)]
