"""The two halves of a channel, each by itself; together they are in ``test_channel_machine``."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol import channel as rules
from sessiond_protocol import wire
from sessiond_protocol.channel import (
    ChannelRun,
    ClientChannel,
    Fate,
    ServerChannel,
    Verdict,
    decides,
)
from sessiond_protocol.errors import DECIDED, REFUSALS, Code
from sessiond_protocol.receipts import DIGEST_BYTES, Receipt, digest, load_receipts, store_receipts

MINE = digest("message.append", b"mine")
OTHER = digest("message.append", b"other")
NIL = msgspec.Raw(wire.pack(None))


def receipt(
    seq: int, result: object = None, error: tuple[str, str, dict[str, object] | None] | None = None
) -> Receipt:
    return Receipt(seq, MINE, error, msgspec.Raw(wire.pack(result)))


def committed(base: ServerChannel, floor: int, *receipts: Receipt) -> ServerChannel:
    """The channel after a batch that decided these."""
    run = ChannelRun(base)
    for each in receipts:
        assert run.judge(each.seq, floor, each.digest) is Verdict.DECIDE
        run.decide(each)
    base.absorb(run)
    return base


# --- what identifies a request -----------------------------------------------------------------


def test_a_digest_tells_methods_and_arguments_apart() -> None:
    assert len(MINE) == DIGEST_BYTES
    assert digest("message.append", b"mine") == MINE
    assert len({MINE, OTHER, digest("message.clear", b"mine"), digest("message.append", b"")}) == 4


# --- what the daemon decides -------------------------------------------------------------------


def test_numbers_are_decided_in_order_from_one() -> None:
    run = ChannelRun(ServerChannel())
    assert run.judge(2, 1, MINE) is Verdict.OUT_OF_ORDER
    assert run.judge(1, 1, MINE) is Verdict.DECIDE
    run.decide(receipt(1))
    assert run.judge(3, 1, MINE) is Verdict.OUT_OF_ORDER
    assert run.judge(2, 1, MINE) is Verdict.DECIDE


def test_a_number_that_was_only_judged_is_still_to_be_decided() -> None:
    """A refusal for a reason of the daemon: its successor waits, the same number may come."""
    run = ChannelRun(ServerChannel())
    assert run.judge(1, 1, MINE) is Verdict.DECIDE
    assert run.judge(2, 1, MINE) is Verdict.OUT_OF_ORDER
    assert run.judge(1, 1, MINE) is Verdict.DECIDE


def test_the_floor_passes_numbers_that_were_given_up() -> None:
    run = ChannelRun(ServerChannel(last=4, known=True))
    assert run.judge(7, 5, MINE) is Verdict.OUT_OF_ORDER
    assert run.judge(7, 7, MINE) is Verdict.DECIDE
    run.decide(receipt(7))
    assert run.judge(5, 7, MINE) is Verdict.DROP
    assert run.judge(6, 5, MINE) is Verdict.DROP  # the highest floor counts, not the latest


def test_a_decided_number_is_answered_and_never_decided_again() -> None:
    run = ChannelRun(ServerChannel())
    run.judge(1, 1, MINE)
    run.decide(receipt(1, 17))
    assert run.judge(1, 1, MINE) is Verdict.ANSWER  # in the same batch
    base = ServerChannel()
    base.absorb(run)
    later = ChannelRun(base)
    assert later.judge(1, 1, MINE) is Verdict.ANSWER  # in a later one
    answer = later.receipt(1)
    assert answer is not None
    assert msgspec.msgpack.decode(answer.result) == 17


def test_a_failure_uses_its_number_up() -> None:
    base = committed(ServerChannel(), 1, receipt(1, error=("integrity", "no such session", None)))
    assert ChannelRun(base).judge(1, 1, MINE) is Verdict.ANSWER
    assert base.status(1) == "failed"


def test_another_request_under_a_used_number_is_told_so() -> None:
    base = committed(ServerChannel(), 1, receipt(1))
    assert ChannelRun(base).judge(1, 1, OTHER) is Verdict.REUSED


def test_a_confirmed_number_has_no_answer_any_more() -> None:
    base = committed(ServerChannel(), 1, receipt(1), receipt(2))
    committed(base, 3, receipt(3))
    assert list(base.receipts) == [3]
    assert ChannelRun(base).judge(2, 2, MINE) is Verdict.DROP


def test_a_run_leaves_the_committed_state_alone() -> None:
    base = committed(ServerChannel(), 1, receipt(1))
    before = (base.last, base.floor, dict(base.receipts), base.answer_bytes)
    run = ChannelRun(base)
    run.judge(2, 2, MINE)
    run.decide(receipt(2))
    assert (base.last, base.floor, base.receipts, base.answer_bytes) == before
    assert run.receipt(2) is not None


def test_receipts_are_found_among_many() -> None:
    run = ChannelRun(ServerChannel())
    for seq in range(1, 500):
        run.decide(receipt(seq, seq))
    for seq in (1, 250, 499):
        found = run.receipt(seq)
        assert found is not None
        assert found.seq == seq
    assert run.receipt(500) is None


# --- bounds ------------------------------------------------------------------------------------


def test_a_client_that_never_confirms_is_refused_at_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "MAX_UNDECIDED", 3)
    base = committed(ServerChannel(), 1, receipt(1), receipt(2), receipt(3))
    assert ChannelRun(base).judge(4, 1, MINE) is Verdict.FULL
    assert ChannelRun(base).judge(4, 2, MINE) is Verdict.DECIDE


def test_answers_that_pile_up_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_ANSWER_BYTES", 100)
    base = committed(ServerChannel(), 1, receipt(1, "x" * 60), receipt(2, "x" * 60))
    assert ChannelRun(base).judge(3, 1, MINE) is Verdict.FULL
    assert ChannelRun(base).judge(3, 2, MINE) is Verdict.DECIDE
    run = ChannelRun(base)
    assert run.judge(3, 3, MINE) is Verdict.DECIDE
    run.decide(receipt(3, error=("integrity", "x" * 200, None)))
    assert run.judge(4, 3, MINE) is Verdict.FULL  # an error's text counts, too
    assert run.judge(4, 4, MINE) is Verdict.DECIDE  # the lowest outstanding always gets through


def test_stored_bytes_are_counted_down_again() -> None:
    base = committed(ServerChannel(), 1, receipt(1, "x" * 60), receipt(2, error=("c", "m", None)))
    assert base.answer_bytes > 60
    committed(base, 3, receipt(3, 1))
    assert base.answer_bytes == receipt(3, 1).answer_bytes


# --- what became of a number -------------------------------------------------------------------


def test_status() -> None:
    base = committed(ServerChannel(), 1, receipt(1), receipt(2, error=("conflict", "m", None)))
    assert base.status(1) == "applied"
    assert base.status(2) == "failed"
    assert base.status(3) == "not_applied"
    committed(base, 3, receipt(3))
    assert base.status(2) == "unknown"
    assert base.status(3) == "applied"


def test_nothing_is_known_of_a_channel_without_a_row() -> None:
    assert ServerChannel().status(5) == "unknown"


# --- receipts as bytes -------------------------------------------------------------------------


results = st.one_of(
    st.integers(0, 2**64 - 1), st.integers(-5, -1), st.none(), st.booleans(), st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3), st.floats(allow_nan=False),
)  # fmt: skip
details: st.SearchStrategy[dict[str, object] | None] = st.none() | st.dictionaries(
    st.text(max_size=3), st.integers(0, 9), max_size=2
)
failures = st.tuples(st.sampled_from(["integrity", "conflict"]), st.text(max_size=9), details)


@st.composite
def batches(draw: st.DrawFn) -> list[Receipt]:
    """Receipts in rising order, with gaps, rising ids, other results and failures."""
    seq, message_id, made = draw(st.integers(1, 10)), draw(st.integers(0, 2**63)), []
    for step in draw(st.lists(st.sampled_from("iiiigr-f"), max_size=25)):
        identity = draw(st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES))
        if step == "i":
            made.append(Receipt(seq, identity, None, msgspec.Raw(wire.pack(message_id))))
            message_id += 1
        elif step == "r":
            made.append(Receipt(seq, identity, None, msgspec.Raw(wire.pack(draw(results)))))
        elif step == "f":
            made.append(Receipt(seq, identity, draw(failures), NIL))
        elif step == "g":
            seq += draw(st.integers(1, 3))
        else:
            message_id += draw(st.integers(0, 3))
        seq += 1
    return made


def plain(each: Receipt) -> tuple[object, ...]:
    return (each.seq, each.digest, each.error, bytes(each.result))


@given(batches())
def test_receipts_come_back_as_they_were_stored(made: list[Receipt]) -> None:
    loaded = sorted(load_receipts(store_receipts(made)), key=lambda each: each.seq)
    assert list(map(plain, loaded)) == list(map(plain, made))


def test_a_run_of_ids_takes_little_more_than_its_digests() -> None:
    made = [receipt(seq, 1_000_000 + seq) for seq in range(1, 1001)]
    assert len(store_receipts(made)) < 1000 * DIGEST_BYTES + 50


@pytest.mark.parametrize("result", [0, 1, 127, 128, 255, 256, 65_536, 2**32, 2**64 - 1])
def test_every_width_of_integer_joins_a_run(result: int) -> None:
    ids = [result] if result == 2**64 - 1 else [result, result + 1]
    made = [receipt(seq, each) for seq, each in enumerate(ids, 1)]
    stored = msgspec.msgpack.decode(store_receipts(made))
    assert [(first, start) for first, start, _ in stored[0]] == [(1, result)]
    assert stored[1] == []


# --- which failures are final ------------------------------------------------------------------


def test_no_code_both_decides_and_refuses() -> None:
    assert not DECIDED & REFUSALS
    for code in Code:
        assert decides(code.value) == (code in DECIDED or code is Code.INTERNAL)


# --- the client's half -------------------------------------------------------------------------


def test_numbers_rise_by_one_and_the_floor_is_the_lowest_outstanding() -> None:
    client = ClientChannel()
    assert (client.floor, client.sent, client.span) == (1, 0, 0)
    assert [client.number() for _ in range(3)] == [1, 2, 3]
    client.answered(2)
    assert (client.floor, client.sent, client.acked, client.span) == (1, 3, 2, 3)
    client.answered(1)
    assert (client.floor, client.acked) == (3, 2)
    client.answered(3)
    assert (client.floor, client.span) == (4, 0)


@given(st.lists(st.sampled_from(["number", "answered", "given_up", "abandon", "lost"])), st.data())
def test_the_floor_follows_whatever_becomes_of_numbers(
    steps: list[str], data: st.DataObject
) -> None:
    client = ClientChannel()
    for step in steps:
        if step == "number":
            client.number()
        elif step == "lost":
            client.lost()
        elif client.sent:
            getattr(client, step)(data.draw(st.integers(1, client.sent)))
        assert client.floor == min(client.outstanding, default=client.next_seq)
        assert client.abandoned <= client.outstanding


def test_a_refused_number_that_was_given_up_was_never_acknowledged() -> None:
    client = ClientChannel()
    client.number()
    client.given_up(1)
    assert (client.floor, client.acked) == (2, 0)


def test_the_floor_passes_an_abandoned_number_only_when_the_connection_is_lost() -> None:
    client = ClientChannel()
    for _ in range(3):
        client.number()
    client.abandon(1)
    client.abandon(2)
    assert client.floor == 1
    client.answered(1)
    assert client.floor == 2
    client.lost()
    assert client.floor == 3
    client.abandon(1)  # long answered: nothing to remember
    assert client.abandoned == set()


@pytest.mark.parametrize(
    ("acked", "known", "last", "fate"),
    [
        (0, False, 0, Fate.RESEND),  # a new channel, or nothing of it was ever decided
        (0, True, 3, Fate.RESEND),  # decided, but no answer had arrived
        (3, True, 3, Fate.RESEND),
        (3, True, 5, Fate.RESEND),
        (3, True, 2, Fate.UNKNOWN),  # the file went back
        (3, False, 0, Fate.UNKNOWN),  # the row is gone
    ],
)
def test_what_hello_means(acked: int, known: bool, last: int, fate: Fate) -> None:
    client = ClientChannel(next_seq=6, floor=6, acked=acked, generation=b"a")
    assert client.welcomed(b"a", known, last) is fate


def test_a_new_generation_is_never_gone_on_with() -> None:
    client = ClientChannel()
    assert client.welcomed(b"a", known=False, last=0) is Fate.RESEND
    assert client.welcomed(b"b", known=True, last=10) is Fate.UNKNOWN
