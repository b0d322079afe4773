"""Numbers that are decided together: the channel is what it would be had each been judged."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol import channel as rules
from sessiond_protocol import wire
from sessiond_protocol.channel import ChannelRun, ServerChannel, Verdict
from sessiond_protocol.receipts import (
    IdReceipts,
    Receipt,
    Receipts,
    digest,
    digests,
    load_receipts,
    store_receipts,
)

NIL = msgspec.Raw(wire.pack(None))


def identity(seq: int) -> bytes:
    """What identifies the request under this number."""
    return digest("message.append", str(seq).encode())


def ids(seq: int, count: int, first_id: int = 100) -> IdReceipts:
    """Receipts of so many appends."""
    return IdReceipts(seq, first_id, b"".join(identity(n) for n in range(seq, seq + count)))


def single(seq: int, result: Any = None, error: Any = None) -> Receipt:
    return Receipt(seq, identity(seq), error, msgspec.Raw(wire.pack(result)))


def apart(receipts: Receipts) -> list[Receipt]:
    """The same, one for each number."""
    if isinstance(receipts, Receipt):
        return [receipts]
    return [
        single(receipts.seq + index, receipts.first_id + index) for index in range(receipts.count)
    ]


def plain(receipt: Receipt | None) -> Any:
    return receipt and (receipt.seq, receipt.digest, receipt.error, bytes(receipt.result))


def committed(base: ServerChannel, floor: int, *receipts: Receipts) -> ServerChannel:
    """The channel after a batch that decided these."""
    run = ChannelRun(base)
    for each in receipts:
        if isinstance(each, IdReceipts):
            assert run.takes(each.seq, each.count, floor, floor)
            run.decide_all(each, floor)
        else:
            assert run.judge(each.seq, floor, each.digest) is Verdict.DECIDE
            run.decide(each)
    base.absorb(run)
    return base


# --- receipts of consecutive numbers -----------------------------------------------------------


@pytest.mark.parametrize(("count", "first_id"), [(1, 0), (2, 127), (200, 100), (3, 2**63 - 3)])
def test_they_are_the_receipts_of_each(count: int, first_id: int) -> None:
    made = ids(7, count, first_id)
    assert (made.count, made.last) == (count, 6 + count)
    found = [made.of(seq) for seq in range(5, 9 + count)]
    assert list(map(plain, found)) == [
        None, None, *(plain(each) for each in apart(made)), None, None,
    ]  # fmt: skip
    assert made.answer_bytes >= sum(each.answer_bytes for each in apart(made))


def test_the_digests_of_several_are_those_of_each() -> None:
    requests = [b"", b"one", b"two" * 1000]
    together = digests("message.append", requests)
    assert together == b"".join(digest("message.append", each) for each in requests)
    assert digests("message.append", []) == b""


@st.composite
def _mixed(draw: st.DrawFn) -> list[Receipts]:
    """Receipts in rising order: alone and together, with gaps, joining ids and failures."""
    seq, message_id, made = draw(st.integers(1, 9)), draw(st.integers(1, 300)), list[Receipts]()
    for step in draw(st.lists(st.sampled_from("iiibbbbgjrf"), max_size=20)):
        if step == "g":
            seq += draw(st.integers(1, 3))
        elif step == "j":
            message_id += draw(st.integers(1, 3))
        elif step == "b":
            made.append(ids(seq, draw(st.integers(1, 5)), message_id))
            seq, message_id = made[-1].last + 1, message_id + made[-1].last - seq + 1
        else:
            if step == "i":
                made.append(single(seq, message_id))
                message_id += 1
            elif step == "r":
                made.append(single(seq, draw(st.none() | st.text(max_size=3) | st.integers(0, 9))))
            else:
                made.append(single(seq, None, ("integrity", "no", {"session_id": "s"})))
            seq += 1
    return made


def by_seq(receipt: Receipt) -> int:
    return receipt.seq


@given(_mixed())
def test_they_are_stored_as_each_by_itself(made: list[Receipts]) -> None:
    singles = [receipt for each in made for receipt in apart(each)]
    assert store_receipts(made) == store_receipts(singles)
    loaded = sorted(load_receipts(store_receipts(made)), key=by_seq)
    assert list(map(plain, loaded)) == list(map(plain, singles))


def test_storing_leaves_them_as_they_are() -> None:
    made: list[Receipts] = [ids(1, 2), ids(3, 2, 102), single(5, 104)]
    before = [plain(each) for one in made for each in apart(one)]
    store_receipts(made)
    store_receipts(made)
    assert [plain(each) for one in made for each in apart(one)] == before
    assert made[0].last == 2


@given(_mixed(), st.integers(1, 60), st.integers(1, 60))
def test_a_channel_tells_of_each_number_what_it_would_of_singles(
    made: list[Receipts], first_floor: int, second_floor: int
) -> None:
    """Whatever is confirmed, also a part of what was decided together."""
    together, alone = ServerChannel(), ServerChannel()
    floors = sorted((first_floor, second_floor))
    half = len(made) // 2
    for floor, part in zip(floors, (made[:half], made[half:]), strict=True):
        runs = ChannelRun(together), ChannelRun(alone)
        for each in part:
            runs[0].decided.append(each)
            runs[1].decided += apart(each)
        for channel, run in zip((together, alone), runs, strict=True):
            run.last = part[-1].last if part else run.last
            run.floor = floor
            channel.absorb(run)
        numbers = range(max(1, floor - 3), together.last + 3)
        for seq in numbers:
            assert plain(together.receipt(seq)) == plain(alone.receipt(seq))
            assert together.status(seq) == alone.status(seq)
        assert together.answer_bytes >= alone.answer_bytes
        assert together.answer_bytes == sum(e.answer_bytes for e in together.receipts.values())
        if floor > together.last:
            assert together.answer_bytes == alone.answer_bytes == 0
            assert together.receipts == {}


def test_a_part_that_was_confirmed_is_unknown_and_the_rest_is_still_answered() -> None:
    base = committed(ServerChannel(), 1, ids(1, 4), ids(5, 4, 200))
    committed(base, 3, single(9, "text"))
    assert [base.status(seq) for seq in range(1, 11)] == [
        "unknown", "unknown", *["applied"] * 7, "not_applied",
    ]  # fmt: skip
    assert plain(base.receipt(3)) == plain(single(3, 102))
    assert [ChannelRun(base).judge(seq, 3, identity(seq)) for seq in (2, 3, 8, 9, 10)] == [
        Verdict.DROP, Verdict.ANSWER, Verdict.ANSWER, Verdict.ANSWER, Verdict.DECIDE,
    ]  # fmt: skip
    assert ChannelRun(base).judge(4, 3, identity(5)) is Verdict.REUSED
    committed(base, 10, single(10))
    assert list(base.receipts) == [10]
    committed(base, 11, ids(11, 2))
    assert base.answer_bytes == ids(11, 2).answer_bytes


def test_the_lowest_numbers_receipt_is_found_behind_many_and_in_large_ones() -> None:
    base = ServerChannel()
    for seq in range(1, 4001, 500):
        committed(base, 1, ids(seq, 500, seq))
    for seq in (1, 499, 500, 501, 2222, 4000):
        assert plain(base.receipt(seq)) == plain(single(seq, seq))
    assert base.receipt(4001) is None
    assert base.receipt(0) is None


# --- judged together ---------------------------------------------------------------------------


@st.composite
def _bases(draw: st.DrawFn) -> ServerChannel:
    """A channel of which some is decided, some given up and some confirmed."""
    base, seq, first_id = ServerChannel(), 1, 10
    for _ in range(draw(st.integers(0, 3))):
        seq += draw(st.sampled_from((0, 0, 0, 2)))
        floor = seq if seq > base.last + 1 else draw(st.integers(1, seq))
        count = draw(st.integers(1, 5))
        together = draw(st.booleans())
        made = [ids(seq, count, first_id)] if together else apart(ids(seq, count, first_id))
        if floor >= base.floor and ChannelRun(base).takes(seq, count, floor, floor):
            committed(base, floor, *made)
            seq, first_id = seq + count, first_id + count
    return base


@given(
    base=_bases(),
    offset=st.sampled_from((0, 0, 0, 0, 0, -3, -1, 1, 4)),
    floors=st.lists(st.sampled_from((-6, -3, -2, -1, 0, 0, 2)), min_size=1, max_size=8),
    rising=st.booleans(),
    undecided=st.integers(1, 12),
    bytes_=st.sampled_from((20, 60, 4_000_000)),
)
def test_what_is_taken_would_have_been_decided_one_by_one(
    base: ServerChannel,
    offset: int,
    floors: list[int],
    rising: bool,
    undecided: int,
    bytes_: int,
) -> None:
    """And leaves the same channel behind: the same answer for every number, now and later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MAX_UNDECIDED", undecided)
        patch.setattr(rules, "MAX_ANSWER_BYTES", bytes_)
        together, alone = ChannelRun(base), ChannelRun(base)
        seq, count = max(1, together.next + offset), len(floors)
        floors = [max(0, seq + each) for each in (sorted(floors) if rising else floors)]
        if not together.takes(seq, count, min(floors), max(floors)):
            return
        made = ids(seq, count, 500)
        together.decide_all(made, max(floors))
        for receipt, floor in zip(apart(made), floors, strict=True):
            assert alone.judge(receipt.seq, floor, receipt.digest) is Verdict.DECIDE
            alone.decide(receipt)
        patch.undo()
        same(together, alone)
        after = ServerChannel(base.last, base.floor, base.known, dict(base.receipts), 10**6)
        base.absorb(together)
        after.absorb(alone)
        same(ChannelRun(base), ChannelRun(after))


def same(together: ChannelRun, alone: ChannelRun) -> None:
    assert (together.last, together.floor, together.next) == (alone.last, alone.floor, alone.next)
    for number in range(1, together.last + 4):
        for wanted in (identity(number), b"another!"):
            floor = max(1, together.floor)
            verdict = together.judge(number, floor, wanted)
            assert verdict is alone.judge(number, floor, wanted)
            if verdict is Verdict.ANSWER:
                assert plain(together.receipt(number)) == plain(alone.receipt(number))


def test_an_ordinary_burst_is_taken() -> None:
    run = ChannelRun(ServerChannel())
    assert run.takes(1, 64, 1, 1)
    run.decide_all(ids(1, 64), 1)
    assert run.takes(65, 64, 1, 60)
    run.decide_all(ids(65, 64, 164), 60)
    assert (run.last, run.floor, run.next) == (128, 60, 129)
    assert plain(run.receipt(128)) == plain(single(128, 227))
    assert run.takes(140, 2, 140, 140)  # what was between was given up


@pytest.mark.parametrize(
    ("seq", "lowest", "highest"),
    [
        (12, 1, 1),  # not next
        (10, 1, 1),  # decided
        (14, 13, 14),  # a number before the first is waited for
        (14, 13, 13),
        (11, 1, 12),  # a later one's floor is above the first
    ],
)
def test_what_is_not_next_is_not_taken(seq: int, lowest: int, highest: int) -> None:
    base = committed(ServerChannel(), 1, ids(1, 10))
    assert not ChannelRun(base).takes(seq, 3, lowest, highest)


def test_what_would_reach_a_bound_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ChannelRun(committed(ServerChannel(), 1, ids(1, 10)))
    assert run.takes(11, 4086, 1, 9)
    assert not run.takes(11, 4087, 1, 9)
    assert run.takes(11, 4087, 2, 9)
    monkeypatch.setattr(rules, "MAX_ANSWER_BYTES", 10 + 5 * 9)
    assert run.takes(11, 5, 1, 1)
    assert not run.takes(11, 6, 1, 1)


def test_what_a_run_has_taken_counts_for_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_ANSWER_BYTES", 100)
    run = ChannelRun(ServerChannel())
    run.decide_all(ids(1, 8, 2**40), 1)
    assert run.judge(9, 1, identity(9)) is Verdict.DECIDE
    assert run.takes(9, 3, 1, 1)
    assert not run.takes(9, 4, 1, 1)
    run.decide_all(ids(9, 4, 2**41), 1)
    assert run.judge(13, 1, identity(13)) is Verdict.FULL
    assert run.judge(13, 9, identity(13)) is Verdict.DECIDE


def test_a_number_without_a_receipt_is_not_searched_for_without_end() -> None:
    """As in a file from which another program has deleted rows."""
    base = ServerChannel(last=2**60, floor=1, known=True)
    assert base.receipt(2**59) is None
    assert base.status(2**59) == "unknown"
