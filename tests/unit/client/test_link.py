"""The client's link, fed with bytes: what each answer means for its caller.

The whole protocol under faults is in ``tests/unit/protocol/test_channel_machine``.
"""

from typing import Any

import msgpack
import pytest

from sessiond_client import _errors as errors
from sessiond_client import _link
from sessiond_client._call import Call
from sessiond_client._link import Link, State
from sessiond_client._outcomes import MOST_KEPT, Outcomes
from sessiond_protocol import wire
from sessiond_protocol.errors import SessiondError
from sessiond_protocol.requests.message import MessageCount
from sessiond_protocol.requests.server import DatabaseFile, Limits, ServerHello, Welcome
from sessiond_protocol.requests.session import SessionDelete, SessionEnsure, SessionSetSystemPrompt

NOT_APPLIED = {"applied": False}


def write() -> SessionEnsure:
    return SessionEnsure(session_id="s", started_at=1.0)


class Talk:
    """A link and the daemon's end of its wire."""

    def __init__(self, max_undecided: int = 100, max_request_bytes: int = 10_000) -> None:
        self.link = Link("/state.db", "test")
        self.now = 100.0
        self.limits = Limits(max_request_bytes, max_undecided)
        self._reader = wire.FrameReader(1_000_000)

    def connect(self, known: bool = False, last: int = 0, generation: bytes = b"g") -> None:
        self.link.connected()
        [hello] = self.sent()
        assert hello[2] == ServerHello.METHOD
        self.welcome(known, last, generation)

    def welcome(self, known: bool = False, last: int = 0, generation: bytes = b"g") -> None:
        file = DatabaseFile("/state.db", 1, 1)
        welcome = Welcome(1, "1.0", 6, file, self.limits, generation, known, last)
        self.answer(0, welcome)

    def start(self, patience: float = 30.0, request: Any = None) -> Call:
        call = Call(request or write(), self.now + patience)
        self.link.start(call, self.now)
        return call

    def sent(self) -> list[Any]:
        """What the link has sent since the last look, decoded."""
        self._reader.feed(bytes(self.link.out))
        self.link.out.clear()
        found = []
        while (frame := self._reader.next_frame()) is not None:
            found.append(msgpack.unpackb(frame))
        return found

    def numbers(self) -> list[tuple[int, int]]:
        """``(seq, floor)`` of what was sent since the last look."""
        return [(each[3][1]["seq"], each[3][1]["floor"]) for each in self.sent()]

    def answer(self, msgid: int, result: Any) -> None:
        self.link.received(wire.response(msgid, result), self.now)

    def refuse(self, call: Call, code: str, data: dict[str, Any] | None = None) -> None:
        self.link.received(wire.error_response(call.msgid, (code, "text", data)), self.now)

    def resend(self) -> None:
        assert self.link.resend_at is not None
        self.now = max(self.now, self.link.resend_at)
        self.link.resend_refused(self.now)


@pytest.fixture
def talk() -> Talk:
    made = Talk()
    made.connect()
    return made


def test_what_was_not_sent_in_time_comes_with_advice() -> None:
    link = Link("/state.db", "test", lambda: "start one with: this")
    calls = [Call(write(), 101.0) for _ in range(2)]
    for call in calls:
        link.start(call, 100.0)
    link.give_up(calls[0])
    link.connected()
    link.give_up(calls[1])
    for call in calls:
        with pytest.raises(
            errors.Unavailable,
            match=r"session.ensure was not sent in time; start one with: this",
        ):
            call.value()


# --- answers -----------------------------------------------------------------------------------


def test_calls_wait_for_hello_and_then_go_in_order() -> None:
    talk = Talk()
    calls = [talk.start() for _ in range(3)]
    talk.connect()
    assert talk.numbers() == [(1, 1), (2, 1), (3, 1)]
    talk.answer(calls[0].msgid, None)
    assert calls[0].done
    assert calls[0].value() is None
    assert talk.link.unfinished() == calls[1:]


def test_a_read_says_which_write_it_comes_after(talk: Talk) -> None:
    talk.start(request=MessageCount())
    talk.start()
    talk.start(request=MessageCount())
    reads = [each[3][1] for each in talk.sent() if each[2] == MessageCount.METHOD]
    assert [read.get("after") for read in reads] == [None, 1]


def test_a_failure_of_the_request_is_raised_and_acknowledged(talk: Talk) -> None:
    call = talk.start()
    talk.refuse(call, "integrity")
    with pytest.raises(errors.Integrity):
        call.value()
    talk.link.lost()
    talk.link.connected()
    [hello] = talk.sent()
    assert (hello[3][0]["acked"], hello[3][0]["floor"]) == (1, 2)


@pytest.mark.parametrize("code", ["unknown_method", "unauthorized", "too_large"])
def test_what_decides_nothing_is_not_acknowledged(talk: Talk, code: str) -> None:
    """Else the next hello would look as if the file had gone back."""
    call = talk.start()
    talk.refuse(call, code)
    assert call.done
    talk.link.lost()
    talk.connect(known=False)
    assert talk.link.state is State.UP
    assert talk.start().done is False
    assert talk.numbers() == [(2, 2)]


def test_a_result_of_the_wrong_type_ends_its_call_only(talk: Talk) -> None:
    call, other = talk.start(request=SessionDelete(session_id="s")), talk.start()
    talk.answer(call.msgid, "neither true nor false")
    talk.answer(other.msgid, None)
    with pytest.raises(SessiondError, match=r"session\.delete does not fit"):
        call.value()
    assert other.value() is None


def test_a_welcome_of_the_wrong_type_is_a_garbled_stream() -> None:
    talk = Talk()
    talk.link.connected()
    with pytest.raises(wire.FrameError, match="hello"):
        talk.answer(0, {"protocol": "one"})


def test_another_protocol_is_told_with_both_versions() -> None:
    talk = Talk()
    talk.link.connected()
    file = DatabaseFile("/state.db", 1, 1)
    welcome = Welcome(9, "9.0", 6, file, talk.limits, b"g", known=False, last=0)
    with pytest.raises(errors.UnknownMethod, match="speaks protocol 9, this library speaks 1"):
        talk.answer(0, welcome)


def test_too_large_is_said_before_a_number_is_used(talk: Talk) -> None:
    call = talk.start(request=SessionSetSystemPrompt(session_id="s", system_prompt="x" * 20_000))
    with pytest.raises(errors.TooLarge, match="exceeds max_request_bytes 10000"):
        call.value()
    assert talk.link.last_seq == 0


# --- refusals ----------------------------------------------------------------------------------


def test_a_passing_refusal_is_sent_again_under_its_number(talk: Talk) -> None:
    call = talk.start()
    first = talk.sent()
    talk.refuse(call, "overloaded", NOT_APPLIED)
    assert not call.done
    talk.resend()
    [again] = talk.sent()
    assert again[3][0] == first[0][3][0]
    assert again[3][1]["seq"] == 1
    talk.answer(call.msgid, None)
    assert call.value() is None


def test_writes_after_a_refused_one_wait_with_it(talk: Talk) -> None:
    """Sent now they would be refused as well, again and again while more of them come."""
    first, second = talk.start(), talk.start()
    talk.refuse(first, "overloaded", NOT_APPLIED)
    third = talk.start()
    assert talk.numbers() == [(1, 1), (2, 1)]
    talk.resend()
    assert talk.numbers() == []  # the answer to the second is still on its way
    talk.refuse(second, "out_of_order", NOT_APPLIED)
    talk.resend()
    assert talk.numbers() == [(1, 1), (2, 1), (3, 1)]
    for call in (first, second, third):
        talk.answer(call.msgid, None)
        assert call.value() is None


def test_a_lasting_refusal_ends_the_call_and_lets_the_next_one_pass(talk: Talk) -> None:
    first, second = talk.start(), talk.start()
    talk.sent()
    talk.refuse(first, "disk_full", NOT_APPLIED)
    with pytest.raises(errors.DiskFull):
        first.value()
    talk.refuse(second, "out_of_order", NOT_APPLIED)
    talk.resend()
    assert talk.numbers() == [(2, 2)]


def test_pauses_grow_and_fall_back(talk: Talk) -> None:
    call, pauses = talk.start(), []
    for _ in range(8):
        talk.refuse(call, "overloaded", NOT_APPLIED)
        assert talk.link.resend_at is not None
        pauses.append(talk.link.resend_at - talk.now)
        talk.resend()
    assert pauses == sorted(pauses)
    assert 0.3 < pauses[-1] <= 0.5
    talk.answer(call.msgid, None)
    call = talk.start()
    talk.refuse(call, "overloaded", NOT_APPLIED)
    assert talk.link.resend_at is not None
    assert talk.link.resend_at - talk.now == pytest.approx(pauses[0])


def test_a_refused_call_that_is_given_up_was_certainly_not_applied(talk: Talk) -> None:
    call, later = talk.start(patience=1.0), talk.start()
    talk.sent()
    talk.refuse(call, "overloaded", NOT_APPLIED)
    talk.refuse(later, "out_of_order", NOT_APPLIED)
    talk.link.give_up(call)
    with pytest.raises(errors.Overloaded):
        call.value()
    talk.resend()
    assert talk.numbers() == [(2, 2)]


def test_a_full_window_opens_again_after_a_refusal() -> None:
    talk = Talk(max_undecided=1)
    talk.connect()
    first = talk.start()
    talk.start()
    assert talk.numbers() == [(1, 1)]
    talk.refuse(first, "disk_full", NOT_APPLIED)
    assert talk.numbers() == [(2, 2)]


def test_the_window_is_what_lies_above_the_floor() -> None:
    talk = Talk(max_undecided=2)
    talk.connect()
    calls = [talk.start() for _ in range(3)]
    talk.answer(calls[1].msgid, None)
    assert talk.numbers() == [(1, 1), (2, 1)]  # the daemon still keeps both receipts
    talk.answer(calls[0].msgid, None)
    assert talk.numbers() == [(3, 3)]


# --- giving up and going away ------------------------------------------------------------------


def test_no_answer_in_time_is_an_unknown_outcome_and_the_floor_waits(talk: Talk) -> None:
    call = talk.start(patience=1.0)
    talk.link.give_up(call)
    with pytest.raises(errors.OutcomeUnknown) as caught:
        call.value()
    assert caught.value.data == {"client_id": talk.link.client_id, "seq": 1}
    talk.start()
    assert talk.numbers() == [(1, 1), (2, 1)]
    talk.answer(call.msgid, None)  # late: swallowed, and now the floor may pass
    talk.start()
    assert talk.numbers() == [(3, 2)]


def test_an_abandoned_write_that_is_refused_does_not_hold_up_the_others(talk: Talk) -> None:
    call, later = talk.start(patience=1.0), talk.start()
    talk.link.give_up(call)
    talk.sent()
    talk.refuse(call, "overloaded", NOT_APPLIED)
    talk.refuse(later, "out_of_order", NOT_APPLIED)
    talk.resend()
    assert talk.numbers() == [(2, 2)]


def test_a_write_given_up_without_a_connection_does_not_hold_up_the_others(talk: Talk) -> None:
    call, later = talk.start(patience=1.0), talk.start()
    talk.sent()
    talk.link.lost()
    talk.link.give_up(call)
    assert isinstance(call.error, errors.OutcomeUnknown)
    talk.connect(known=False)
    assert talk.numbers() == [(2, 2)]
    talk.answer(later.msgid, None)
    assert later.value() is None


def test_cancelling_says_under_which_number_it_may_still_happen(talk: Talk) -> None:
    call = talk.start()
    assert talk.link.cancel(call) == 1
    assert talk.link.cancel(call) is None
    talk.answer(call.msgid, None)
    assert not talk.link.finished
    assert not talk.link.busy


def test_cancelling_what_was_not_sent_or_was_refused_leaves_nothing() -> None:
    talk = Talk()
    waiting = talk.start()
    assert talk.link.cancel(waiting) is None
    talk.connect()
    assert talk.numbers() == []
    refused = talk.start()
    talk.refuse(refused, "overloaded", NOT_APPLIED)
    assert talk.link.cancel(refused) is None
    talk.sent()
    talk.resend()
    assert talk.numbers() == []


def test_a_call_that_was_never_sent_says_why(talk: Talk) -> None:
    talk.link.lost()
    call = talk.start(patience=1.0)
    talk.link.trouble = errors.Unavailable("no daemon at /run/x.sock")
    talk.link.give_up(call)
    with pytest.raises(errors.Unavailable, match=r"/run/x\.sock"):
        call.value()


def test_ending_everything_tells_the_certain_from_the_unknown(talk: Talk) -> None:
    refused = talk.start()
    talk.refuse(refused, "overloaded", NOT_APPLIED)
    talk.resend()
    sent, read = talk.start(), talk.start(request=MessageCount())
    talk.refuse(refused, "overloaded", NOT_APPLIED)
    waiting = talk.start()
    talk.link.fail_all(errors.Unauthorized("not for you"))
    assert isinstance(sent.error, errors.OutcomeUnknown)
    for call in (refused, read, waiting):
        assert isinstance(call.error, errors.Unauthorized)
    talk.link.lost()
    assert not talk.link.busy
    talk.connect(known=True, last=1)
    talk.start()
    assert talk.numbers() == [(3, 3)]


def test_what_the_socket_does_not_take_waits_without_a_number(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "MOST_UNSENT", 100)
    calls = [talk.start() for _ in range(4)]
    numbered = [call.seq for call in calls]
    assert numbered[0] == 1
    assert numbered[-1] is None
    assert talk.link.cancel(calls[-1]) is None
    talk.link.refill(talk.now)
    assert [call.seq for call in calls] == numbered  # the socket took nothing yet
    while talk.link.queued:
        talk.sent()
        talk.link.refill(talk.now)
    assert [call.seq for call in calls] == [1, 2, 3, None]


# --- answers that nobody waits for -------------------------------------------------------------


def test_the_answer_of_a_write_whose_caller_left_is_kept(talk: Talk) -> None:
    stored, failed, late = talk.start(), talk.start(), talk.start(patience=1.0)
    assert (talk.link.cancel(stored), talk.link.cancel(failed)) == (1, 2)
    talk.link.give_up(late)
    me, find = talk.link.client_id, talk.link.outcomes.find
    assert [find(me, seq) for seq in (1, 2, 3)] == [None, None, None]
    talk.answer(stored.msgid, None)
    talk.refuse(failed, "integrity")
    talk.answer(late.msgid, None)
    assert [find(me, seq) for seq in (1, 2, 3)] == ["applied", "failed", "applied"]
    assert find(b"another channel", 1) is None


def test_the_answer_of_a_write_whose_caller_left_too_late_is_kept(talk: Talk) -> None:
    stored, failed, refused = talk.start(), talk.start(), talk.start()
    talk.answer(stored.msgid, None)
    talk.refuse(failed, "conflict")
    talk.refuse(refused, "disk_full", NOT_APPLIED)
    assert [talk.link.cancel(call) for call in (stored, failed, refused)] == [1, 2, None]
    me, find = talk.link.client_id, talk.link.outcomes.find
    assert [find(me, seq) for seq in (1, 2, 3)] == ["applied", "failed", None]


def test_only_the_latest_answers_are_kept() -> None:
    outcomes = Outcomes()
    for seq in range(MOST_KEPT + 1):
        outcomes.note(b"me", seq, applied=True)
    assert outcomes.find(b"me", 0) is None
    assert outcomes.find(b"me", 1) == outcomes.find(b"me", MOST_KEPT) == "applied"


# --- lost connections --------------------------------------------------------------------------


def test_what_is_outstanding_is_sent_again_with_the_same_bytes(talk: Talk) -> None:
    talk.start()
    talk.start()
    first = talk.sent()
    talk.link.lost()
    talk.connect(known=True, last=1)
    again = talk.sent()
    assert [each[3][0] for each in again] == [each[3][0] for each in first]
    assert [each[3][1]["seq"] for each in again] == [1, 2]


def test_a_write_whose_bytes_never_left_was_certainly_not_applied(talk: Talk) -> None:
    left = talk.start()
    talk.sent()
    stuck, read = talk.start(), talk.start(request=MessageCount())
    del talk.link.out[:10]  # a part of a request is no request
    talk.link.lost()
    talk.link.trouble = errors.Unavailable("no daemon at /run/x.sock")
    for call in (left, stuck, read):
        talk.link.give_up(call)
    assert isinstance(left.error, errors.OutcomeUnknown)
    assert isinstance(stuck.error, errors.Unavailable)
    assert isinstance(read.error, errors.Unavailable)
    talk.connect(known=True, last=1)
    talk.start()
    assert talk.numbers() == [(3, 3)]


def test_a_write_that_left_once_may_have_been_applied_whatever_followed(talk: Talk) -> None:
    call = talk.start()
    talk.sent()
    talk.link.lost()
    talk.link.connected()
    talk.sent()
    talk.welcome()
    talk.link.lost()  # sent again, and none of it left this time
    assert talk.link.cancel(call) == 1


def test_a_write_that_was_refused_counts_as_one_that_never_left(talk: Talk) -> None:
    call = talk.start()
    talk.sent()
    talk.refuse(call, "overloaded", NOT_APPLIED)
    talk.resend()
    talk.link.lost()
    assert talk.link.cancel(call) is None


def test_when_the_file_went_back_what_never_left_goes_on(talk: Talk) -> None:
    answered = talk.start()
    talk.answer(answered.msgid, None)
    talk.sent()
    stuck = talk.start()
    talk.link.lost()
    talk.link.connected()
    talk.sent()
    talk.welcome(known=True, last=0, generation=b"other")
    talk.sent()
    talk.welcome(generation=b"other")
    assert talk.numbers() == [(1, 1)]
    talk.answer(stuck.msgid, None)
    assert stuck.value() is None


def test_when_the_file_went_back_sent_writes_are_unknown_and_the_rest_goes_on(talk: Talk) -> None:
    answered = talk.start()
    talk.answer(answered.msgid, None)
    refused, sent = talk.start(), talk.start()
    talk.refuse(refused, "overloaded", NOT_APPLIED)
    waiting = talk.start()
    old = talk.link.client_id
    talk.sent()
    talk.link.lost()
    talk.link.connected()
    talk.sent()
    talk.welcome(known=True, last=0)
    with pytest.raises(errors.OutcomeUnknown, match="went back"):
        sent.value()
    assert talk.link.client_id != old
    [hello] = talk.sent()
    assert hello[3][0]["client_id"] == talk.link.client_id
    talk.welcome()
    assert talk.numbers() == [(1, 1), (2, 1)]  # what was refused, then what had not been sent
    talk.answer(refused.msgid, None)
    talk.answer(waiting.msgid, None)
    assert (refused.value(), waiting.value()) == (None, None)
