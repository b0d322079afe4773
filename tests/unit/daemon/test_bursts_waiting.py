"""Bursts in the writer's inbox: it holds and gives out what it would of single requests."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.inbox import Inbox
from sessiond.work import Burst, Entry, Work, one_by_one, requests_in
from tests.unit.daemon.sending import CLIENT, OTHER, Peer, fields, sized
from tests.unit.daemon.stores import appending

A, B, C = Peer(name="a"), Peer(name="b"), Peer(name="c")


def alone(peer: Peer, size: int = 1) -> Work:
    return Work(peer, 0, appending("s", "alone"), 0.0, float("inf"), size)


def burst(peer: Peer, count: int, size: int = 1, seq: int = 1) -> Burst:
    return sized([size] * count, seq, peer)


def names(taken: list[Entry]) -> str:
    return "".join(each.peer.name for each in one_by_one(taken))


def held(box: Inbox) -> tuple[int, int, int]:
    return (box.requests, box.bytes, box.writers)


# --- bounds ------------------------------------------------------------------------------------


def test_a_burst_counts_as_its_requests() -> None:
    box = Inbox(10, 1000)
    box.put([burst(A, 9, size=3)])
    assert (held(box), box.full) == ((9, 27, 1), False)
    box.put([alone(B, size=5)])
    assert (held(box), box.full) == ((10, 32, 2), True)
    assert requests_in(box.take(4, 1000)) == 4
    assert (box.requests, box.full) == (6, False)
    box.put([burst(C, 2, size=600)])
    assert box.full


def test_a_batch_never_takes_more_of_a_burst_than_it_has_room_for() -> None:
    box = Inbox(1000, 1000)
    box.put([burst(A, 10, size=40)])
    assert [requests_in(box.take(*bounds)) for bounds in ((3, 1000), (100, 80), (100, 1))] == [
        3, 2, 1,
    ]  # fmt: skip
    assert held(box) == (4, 160, 1)
    (rest,) = box.take(100, 1000)
    assert isinstance(rest, Burst)
    assert (rest.seq, rest.count) == (7, 4)
    assert box.take(100, 1000) == []
    assert held(box) == (0, 0, 0)


def test_a_burst_that_fits_is_given_out_as_it_is() -> None:
    box, made = Inbox(1000, 1000), burst(A, 64)
    box.put([made])
    assert box.take(64, 1000) == [made]


def test_everybody_gets_a_share_of_a_batch() -> None:
    box = Inbox(1000, 1_000_000)
    box.put([burst(A, 64), burst(A, 36, seq=65)])
    box.put([burst(B, 2)])
    box.put([alone(C) for _ in range(100)])
    taken = names(box.take(30, 1_000_000))
    assert len(taken) == 30
    assert taken.count("b") == 2
    assert abs(taken.count("a") - taken.count("c")) <= 1


def test_large_bursts_do_not_keep_the_others_out() -> None:
    box = Inbox(1000, 1_000_000)
    box.put([burst(A, 50, size=100)])
    box.put([burst(B, 3)])
    assert [names(box.take(10, 500)) for _ in range(2)] == ["aaaaa", "bbbaaaaa"]


_arrivals = st.lists(
    st.tuples(
        st.integers(0, 3),  # whose
        st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=12), min_size=1, max_size=3),
        st.sampled_from(["", "", "", "discard", "channel", "all"]),
    ),
    min_size=1,
)
_bounds = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 300)), min_size=1, max_size=9)


@given(_arrivals, _bounds)
def test_it_gives_out_what_it_would_of_single_requests(
    arrivals: list[tuple[int, list[list[int]], str]], bounds: list[tuple[int, int]]
) -> None:
    """The same requests in the same batches in the same order, and the same counts at any time."""
    peers = [Peer(bytes([place % 2] * 16), str(place)) for place in range(4)]
    together, singly, sent = Inbox(50, 700), Inbox(50, 700), [1] * 4
    turns = iter(bounds * (2 * len(arrivals) + 1_000))

    def same(taken: list[Entry], expected: list[Entry]) -> None:
        assert list(map(fields, one_by_one(taken))) == list(map(fields, one_by_one(expected)))
        assert held(together) == held(singly)
        assert together.full == singly.full

    for place, pieces, then in arrivals:
        made: list[Entry] = []
        for sizes in pieces:
            made.append(sized(sizes, sent[place], peers[place]))
            sent[place] += len(sizes)
            made.append(alone(peers[place]))
        together.put(made)
        singly.put(one_by_one(made))
        if then:
            same(take_back(together, then, peers), take_back(singly, then, peers))
        most, size = next(turns)
        taken = together.take(most, size)
        assert requests_in(taken) <= most
        same(taken, singly.take(most, size))
    while together.requests:
        most, size = next(turns)
        same(together.take(most, size), singly.take(most, size))


def take_back(box: Inbox, what: str, peers: list[Peer]) -> list[Entry]:
    if what == "discard":
        return box.discard(peers[1])
    if what == "channel":
        return box.discard_channel(bytes(16), keep=peers[2])
    return box.discard_all()


# --- taking back -------------------------------------------------------------------------------


def test_what_is_left_of_a_burst_is_taken_back() -> None:
    box = Inbox(1000, 1000)
    box.put([burst(A, 6, size=5), alone(A)])
    box.put([burst(B, 2)])
    assert requests_in(box.take(4, 1000)) == 4
    taken = box.discard(A)
    assert names(taken) == "a" * 5
    assert held(box) == (0, 0, 0)


@pytest.mark.parametrize("closed", [False, True])
def test_a_channels_bursts_are_taken_back_from_older_connections(closed: bool) -> None:
    old: Any = Peer(CLIENT, "o")
    old.closed = closed
    new, stranger, moved = Peer(CLIENT, "n"), Peer(OTHER, "s"), Peer(CLIENT, "m")
    box = Inbox(1000, 1000)
    for peer in (old, new, stranger, moved):
        box.put([burst(peer, 3, size=2)])
    moved.client_id = OTHER  # it has said hello for another channel since
    box.put([burst(moved, 2)])
    assert names(box.take(1, 1000)) == "o"
    assert names(box.discard_channel(CLIENT, keep=new)) == "mmmoo"
    assert held(box) == (8, 14, 3)
    assert sorted(names(box.take(100, 1000))) == sorted("nnnsssmm")


# --- waiting -----------------------------------------------------------------------------------


def test_waiting_for_company_ends_with_enough_requests() -> None:
    box = Inbox(1000, 1000)
    box.put([burst(A, 10)])
    box.wait_for_more(5, 10, 3600.0)  # would wait for an hour if it counted bursts
