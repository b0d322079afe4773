"""The writer's inbox: bounds, fairness, and what is taken back."""

import threading
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.inbox import Inbox
from sessiond.work import Entry, Work
from sessiond_protocol.requests.session import SessionReopen

REQUEST = SessionReopen(session_id="s")


class Peer:
    """A connection, by name."""

    closed = False

    def __init__(self, name: str, client_id: bytes | None = None) -> None:
        self.name = name
        self.client_id = client_id


A, B, C = Peer("a"), Peer("b"), Peer("c")


def work(peer: Peer, msgid: int = 0, size: int = 1) -> Work:
    return Work(peer, msgid, REQUEST, 0.0, float("inf"), size)


def works(peer: Peer, count: int, size: int = 1) -> list[Work]:
    return [work(peer, msgid, size) for msgid in range(count)]


def inbox(max_requests: int = 1000, max_bytes: int = 1_000_000) -> Inbox:
    return Inbox(max_requests, max_bytes)


def names(taken: list[Entry]) -> str:
    return "".join(each.peer.name for each in taken)


def soon(action: Any) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


# --- bounds ------------------------------------------------------------------------------------


def test_it_is_full_at_either_bound_and_never_refuses() -> None:
    box = inbox(max_requests=3, max_bytes=100)
    box.put(works(A, 2))
    assert not box.full
    box.put(works(B, 1))
    assert box.full
    box.put(works(B, 5))
    assert (box.requests, box.bytes) == (8, 8)
    box = inbox(max_requests=100, max_bytes=10)
    box.put(works(A, 1, size=10))
    assert box.full
    box.take(10, 100)
    assert not box.full
    assert (box.requests, box.bytes) == (0, 0)


def test_a_batch_ends_at_either_bound_but_is_never_empty() -> None:
    box = inbox()
    box.put(works(A, 10, size=40))
    assert len(box.take(3, 1000)) == 3
    assert len(box.take(100, 80)) == 2
    assert len(box.take(100, 1)) == 1
    assert len(box.take(100, 1000)) == 4
    assert box.take(100, 1000) == []


# --- fairness ----------------------------------------------------------------------------------


def test_everybody_gets_a_share_of_a_batch() -> None:
    box = inbox()
    box.put(works(A, 100))
    box.put(works(B, 2))
    box.put(works(C, 100))
    taken = names(box.take(30, 1000))
    assert taken.count("b") == 2
    assert abs(taken.count("a") - taken.count("c")) <= 1
    assert len(taken) == 30


def test_what_one_does_not_use_goes_to_the_others() -> None:
    box = inbox()
    box.put(works(A, 100))
    box.put(works(B, 1))
    assert names(box.take(50, 1000)).count("a") == 49


@pytest.mark.parametrize("most", [1, 2, 3])
def test_small_batches_take_turns(most: int) -> None:
    """Whoever was cut off comes first the next time: nobody waits for ever."""
    box = inbox()
    for peer in (A, B, C):
        box.put(works(peer, 12))
    taken = "".join(names(box.take(most, 1000)) for _ in range(12 // most))
    assert {taken.count(name) for name in "abc"} == {4}


def test_large_requests_do_not_keep_the_others_out() -> None:
    box = inbox()
    box.put(works(A, 50, size=100))
    box.put(works(B, 3, size=1))
    taken = [names(box.take(10, 500)) for _ in range(3)]
    assert taken[0] == "aaaaa"
    assert taken[1].startswith("bbb")


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6), st.integers(1, 50))),
    bounds=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 200)), min_size=1, max_size=9),
)
def test_every_request_comes_out_once_and_in_its_connections_order(
    arrivals: list[tuple[int, int, int]], bounds: list[tuple[int, int]]
) -> None:
    peers = [Peer(str(number)) for number in range(5)]
    box = inbox()
    sent: defaultdict[int, list[Entry]] = defaultdict(list)
    received: defaultdict[int, list[Entry]] = defaultdict(list)
    for turn, (place, count, size) in enumerate(arrivals):
        group = works(peers[place], count, size)
        sent[place] += group
        box.put(group)
        taken = box.take(*bounds[turn % len(bounds)])
        assert 1 <= len(taken) <= bounds[turn % len(bounds)][0]
        for each in taken:
            received[int(each.peer.name)].append(each)
    while rest := box.take(7, 100):
        for each in rest:
            received[int(each.peer.name)].append(each)
    assert received == sent
    assert (box.requests, box.bytes, box.writers) == (0, 0, 0)


@given(
    queues=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    most=st.integers(1, 20),
)
def test_nobody_with_something_waiting_is_passed_over_for_long(
    queues: list[int], most: int
) -> None:
    peers = [Peer(chr(97 + number)) for number in range(len(queues))]
    box = inbox()
    for peer, count in zip(peers, queues, strict=True):
        box.put(works(peer, count))
    waiting = {peer.name: count for peer, count in zip(peers, queues, strict=True)}
    passed_over = dict.fromkeys(waiting, 0)
    while taken := names(box.take(most, 1000)):
        for name in waiting:
            waiting[name] -= taken.count(name)
            passed_over[name] = 0 if name in taken else passed_over[name] + 1
            if waiting[name]:
                assert passed_over[name] <= len(queues) // most + 1


# --- taking back -------------------------------------------------------------------------------


def test_a_connections_requests_are_taken_back() -> None:
    box = inbox()
    box.put(works(A, 3, size=5))
    box.put(works(B, 2))
    assert names(box.discard(A)) == "aaa"
    assert box.discard(A) == []
    assert (box.requests, box.bytes, box.writers) == (2, 2, 1)
    assert names(box.take(10, 100)) == "bb"


def test_a_channels_requests_are_taken_back_from_all_older_connections() -> None:
    mine, other = b"m" * 16, b"o" * 16
    old, closed, new = Peer("o", mine), Peer("c", mine), Peer("n", mine)
    closed.closed = True
    stranger = Peer("s", other)
    moved = Peer("m", mine)
    box = inbox()
    for peer in (old, closed, new, stranger, moved):
        box.put(works(peer, 2))
    moved.client_id = other  # it has said hello for another channel since
    box.put(works(moved, 1))
    assert sorted(names(box.discard_channel(mine, keep=new))) == sorted("ooccmm")
    assert (box.requests, box.bytes) == (5, 5)
    assert sorted(names(box.take(10, 100))) == sorted("nnssm")


# --- waiting -----------------------------------------------------------------------------------


def test_waiting_ends_when_something_arrives_or_the_time_is_up() -> None:
    box = inbox()
    assert box.wait(0.0)
    thread = soon(lambda: box.put(works(A, 1)))
    assert box.wait(10.0)
    thread.join()
    assert box.requests == 1


def test_waiting_for_company_ends_with_enough_writers_or_requests() -> None:
    box = inbox()
    box.put(works(A, 1))
    thread = soon(lambda: box.put(works(B, 1)))
    box.wait_for_more(2, 100, 10.0)
    thread.join()
    assert box.writers == 2
    thread = soon(lambda: box.put(works(B, 8)))
    box.wait_for_more(3, 10, 10.0)
    thread.join()
    assert box.requests == 10
    box.wait_for_more(3, 100, 0.0)


def test_closing_ends_the_waiting_but_not_before_all_is_taken() -> None:
    box = inbox()
    box.put(works(A, 1))
    box.close()
    assert box.wait(None)
    box.take(10, 100)
    assert not box.wait(None)
    box.wait_for_more(5, 5, 10.0)


def test_errands_are_handed_over_once_in_order() -> None:
    box, done = inbox(), []
    box.put_errand(lambda: done.append(1))
    box.put_errand(lambda: done.append(2))
    box.close()
    assert box.wait(None)
    for errand in box.take_errands():
        errand()
    assert done == [1, 2]
    assert box.take_errands() == []
    assert not box.wait(None)


def test_everything_is_taken_back_at_once() -> None:
    box = inbox()
    for peer in (A, B):
        box.put(works(peer, 3))
    assert names(box.discard_all()) == "aaabbb"
    assert (box.requests, box.bytes, box.writers) == (0, 0, 0)
    box.put(works(A, 1))
    assert names(box.take(10, 10)) == "a"
