"""A client's connection to the daemon as a state machine: no socket, no thread, no clock.

Both drivers, the blocking one and the asyncio one, feed it bytes and times and do what it says.
It numbers writes, keeps what is outstanding, sends it again after a lost connection, and decides
what each answer means for its caller.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

import msgspec

from sessiond_client import _errors as errors
from sessiond_client._call import (
    NOT_HERE,
    PASSING,
    Call,
    Signal,
    by_number,
    decode_result,
    is_refusal,
)
from sessiond_client._clock import jittered
from sessiond_client._hello import ASSUMED_MAX_REQUEST_BYTES, HELLO, hello, read_welcome
from sessiond_client._outcomes import Outcomes
from sessiond_client._watch import Watches
from sessiond_protocol import wire
from sessiond_protocol.channel import CLIENT_ID_BYTES, ClientChannel, Fate, decides
from sessiond_protocol.errors import SessiondError, WireError
from sessiond_protocol.requests import Kind
from sessiond_protocol.requests.server import Welcome

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
TTL_SHARE = 0.9

# Bytes in ``out`` beyond which further calls wait, unnumbered, for the socket to take them.
MOST_UNSENT = 1024 * 1024


class State(Enum):
    """How far a connection is."""

    DOWN = auto()
    GREETING = auto()
    UP = auto()


class Link:
    """The state of one channel over any number of connections.

    ``out`` holds bytes to send. Every method that may finish calls collects them in
    ``finished``, which the driver empties. ``advice``: what to do while no daemon answers.
    """

    def __init__(self, database: str, program: str, advice: Callable[[], str] = str) -> None:
        self._database = database
        self._program = program
        self._advice = advice
        self._channel = ClientChannel()
        self.client_id = os.urandom(CLIENT_ID_BYTES)
        self._reader = wire.FrameReader(2**31 - 1)
        self._calls: dict[int, Call] = {}  # sent, in order
        self._queue: deque[Call] = deque()  # not sent yet
        self._next_msgid = 1
        self._pause = FIRST_PAUSE
        self._hole = False  # a write was refused: those after it would be, too
        self.state = State.DOWN
        self.out = bytearray()
        self._written = 0  # bytes that this connection's ``out`` was ever given
        self.finished: list[Signal] = []
        self.watches = Watches(self)
        self.outcomes = Outcomes()
        self.welcome: Welcome | None = None
        self._most_bytes, self._most_undecided = ASSUMED_MAX_REQUEST_BYTES, 0
        self.resend_at: float | None = None
        self.trouble: SessiondError | None = None
        self._unanswered_hellos = 0

    @property
    def busy(self) -> bool:
        """Whether any call is not done."""
        return bool(self.unfinished())

    @property
    def queued(self) -> Sequence[Call]:
        """The calls that wait to be sent, the next one first."""
        return self._queue

    @property
    def last_seq(self) -> int:
        """The highest number given to a write."""
        return self._channel.sent

    def unfinished(self) -> list[Call]:
        """Every call that somebody waits for."""
        return [call for call in (*self._calls.values(), *self._queue) if not call.done]

    def writes_before(self, seq: int) -> list[Call]:
        """Writes that are not done: those numbered up to ``seq`` and those without a number."""
        writes = [call for call in self.unfinished() if call.kind is Kind.WRITE]
        return [call for call in writes if call.seq is None or call.seq <= seq]

    # --- the caller's side -----------------------------------------------------------------

    def start(self, call: Call, now: float) -> None:
        """Send a call, or keep it until there is a connection."""
        size = len(call.arguments) + 128
        if size > self._most_bytes:
            message = f"message of {size} bytes exceeds max_request_bytes {self._most_bytes}"
            self._finish(call, error=errors.TooLarge(message))
        else:
            self._queue.append(call)
            self._send_queued(now)

    def _may_send(self) -> bool:
        """Whether there is a connection and room for another call."""
        if self.state is not State.UP or self._hole or len(self.out) >= MOST_UNSENT:
            return False
        return self._channel.span < self._most_undecided

    def refill(self, now: float) -> None:
        """The socket took most of ``out``: add what waits."""
        if self._queue and len(self.out) < MOST_UNSENT // 2:
            self._send_queued(now)

    def _send(self, call: Call, now: float) -> None:
        call.sent = True
        call.refused = False
        call.msgid = self._next_msgid
        self._next_msgid = call.msgid % 0xFFFF_FFFF + 1
        self._calls[call.msgid] = call
        # The daemon's time for it runs out a little sooner than ours, so that it can still say so.
        ttl = max(0.0, (call.deadline - now) * TTL_SHARE)
        if call.kind is Kind.WRITE:
            if call.seq is None:
                call.seq = self._channel.number()
            place = wire.Place(seq=call.seq, floor=self._channel.floor, ttl=ttl)
        elif call.kind is Kind.READ:
            place = wire.Place(after=self._channel.sent or None, ttl=ttl)
        else:
            place = wire.Place(ttl=ttl)
        method = call.request_type.METHOD
        call.end = self._put(wire.request(call.msgid, method, call.arguments, place))

    def _put(self, data: bytes) -> int:
        """Add to what is to be sent; where it ends among this connection's bytes."""
        self.out += data
        self._written += len(data)
        return self._written

    def give_up(self, call: Call) -> None:
        """The caller's time ran out: say what can be said, and stop waiting."""
        if call.done:
            return
        method = call.request_type.METHOD
        error: BaseException | None
        if call.refused:
            error = call.error
        elif self._may_be_applied(call):
            error = call.unknown(self.client_id, "the deadline passed without an answer")
        elif call.sent and self.state is State.UP:
            error = errors.Timeout(f"{method} was not answered in time")
        else:
            why = "; ".join(filter(None, (f"{method} was not sent in time", self._advice())))
            error = self.trouble or errors.Unavailable(why)
        self._let_go(call)
        self._finish(call, error=error)

    def cancel(self, call: Call) -> int | None:
        """The caller went away; the number under which the write may still happen, if any."""
        if call.done:
            return self._unheard(call)
        number = call.seq if self._may_be_applied(call) else None
        call.done, call.error = True, errors.Closed("the caller went away")
        self._let_go(call)
        return number

    def _unheard(self, call: Call) -> int | None:
        """The number of a write that was answered just before its caller went away."""
        error = call.error
        if call.seq is None or (error is not None and not decides(getattr(error, "code", ""))):
            return None
        self.outcomes.note(self.client_id, call.seq, applied=error is None)
        return call.seq

    def _may_be_applied(self, call: Call) -> bool:
        """Whether the daemon may have applied a write, or may still do it.

        It cannot have if it refused it, or if each connection was lost before all of the write's
        bytes had left.
        """
        if call.seq is None or call.refused:
            return False
        return call.exposed or self.state is State.UP

    def _let_go(self, call: Call) -> None:
        """Nobody waits for a call any more. What is on its way is waited for, unheard.

        The floor passes a number that may still be applied only when the connection that it was
        sent on is gone, and with it what the daemon has not read yet.
        """
        if not call.sent:
            self._queue.remove(call)
        elif self.state is State.UP and not call.refused:
            if call.seq is not None:
                self._channel.abandon(call.seq)
        else:
            self._forget(call)

    def _forget(self, call: Call) -> None:
        """A call that is not on its way leaves its place; its number is not used again."""
        del self._calls[call.msgid]
        if call.seq is not None:
            self._channel.given_up(call.seq)

    def fail_all(self, error: SessiondError) -> None:
        """End everything that may have been applied as unknown, the rest with this error."""
        for call in self.unfinished():
            uncertain = self._may_be_applied(call)
            if call.sent:
                self._let_go(call)
            unknown = call.unknown(self.client_id, str(error))
            self._finish(call, error=unknown if uncertain else error)
        self._queue.clear()

    @property
    def pause_before_dialling(self) -> float:
        """Seconds to wait before the next connection: none, unless hello went unanswered."""
        if not self._unanswered_hellos:
            return 0.0
        longest = min(FIRST_PAUSE * 2**self._unanswered_hellos, LONGEST_PAUSE)
        return jittered(longest)

    # --- the connection's side -------------------------------------------------------------

    def connected(self) -> None:
        """A connection was made: greet."""
        self.state = State.GREETING
        self._unanswered_hellos += 1
        self._reader = wire.FrameReader(2**31 - 1)
        self.out.clear()
        self._written = 0
        self._greet()

    def _greet(self) -> None:
        self._put(hello(self._channel, self.client_id, self._database, self._program))

    def lost(self) -> None:
        """The connection is gone. What was sent waits to be sent again."""
        self.state = State.DOWN
        self.resend_at = None
        left = self._written - len(self.out)
        for call in self._calls.values():
            call.exposed = call.exposed or call.end <= left
            call.end = NOT_HERE
        self.out.clear()
        self._channel.lost()
        self._calls = {msgid: call for msgid, call in self._calls.items() if not call.done}
        self.watches.lost()

    def received(self, data: bytes, now: float) -> None:
        """Bytes arrived. Raises :class:`SessiondError` if the connection is of no use."""
        # Whoever waits for each answer gets one at a time: there is nothing to cut.
        whole = None if self._reader.waiting else wire.whole_response(data)
        if whole is not None:
            self._answered(whole, now)
        else:
            self._reader.feed(data)
            while (frames := self._reader.next_frames(256))[1]:
                for message in wire.decode_frames(*frames):
                    if isinstance(message, wire.ResponseFrame):
                        self._answered(message, now)
                    elif isinstance(message, wire.NotificationFrame):
                        self.watches.notified(message, now)
        self._send_queued(now)

    def _answered(self, message: wire.ResponseFrame, now: float) -> None:
        call = self._calls.get(message.msgid)
        if call is None:
            if message.msgid == HELLO and self.state is State.GREETING:
                self._welcomed(message, now)
            elif message.msgid == HELLO and message.error is not None:
                raise errors.from_wire(message.error)
            return
        if message.error is not None and is_refusal(call, message.error):
            self._refused(call, message.error, now)
        else:
            self._decided(call, message)

    def _decided(self, call: Call, message: wire.ResponseFrame) -> None:
        """Take a final answer."""
        error = message.error
        if error is None or decides(error[0]):
            del self._calls[call.msgid]
            if call.seq is not None:
                self._channel.answered(call.seq)
                self._pause = FIRST_PAUSE
                if call.done:
                    self.outcomes.note(self.client_id, call.seq, applied=error is None)
        else:
            self._forget(call)
        if call.done:
            return
        if error is not None:
            self._finish(call, error=errors.from_wire(error))
            return
        try:
            result = decode_result(call.request_type, message.result)
        except msgspec.DecodeError as cause:
            what = f"the daemon's answer to {call.request_type.METHOD} does not fit: {cause}"
            self._finish(call, error=SessiondError(what))
        else:
            self._finish(call, result=result)

    def _refused(self, call: Call, error: WireError, now: float) -> None:
        """Take a refusal that decides nothing: send the same again later, or end it."""
        if error[0] not in PASSING or call.done:
            self._forget(call)
            if not call.done:
                self._finish(call, error=errors.from_wire(error))
            return
        call.refused = True
        call.exposed = False
        call.error = errors.from_wire(error)
        self._hole = self._hole or call.seq is not None
        if self.resend_at is None:
            self.resend_at = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def resend_refused(self, now: float) -> None:
        """Send again, in order, what was refused for a reason that may have passed."""
        calls = self._calls.values()
        if self._hole and any(call.seq is not None and not call.refused for call in calls):
            # Sent now, the lowest number would arrive after those that wait for it.
            self.resend_at = now + FIRST_PAUSE
            return
        self.resend_at = None
        self._hole = False
        refused = [call for call in self._calls.values() if call.refused]
        for call in refused:
            del self._calls[call.msgid]
        for call in sorted(refused, key=by_number):
            self._send(call, now)
        self._send_queued(now)

    def _welcomed(self, message: wire.ResponseFrame, now: float) -> None:
        self.welcome = welcome = read_welcome(message)
        self._most_bytes = welcome.limits.max_request_bytes
        self._most_undecided = welcome.limits.max_undecided
        self.trouble = None
        self._unanswered_hellos = 0
        fate = self._channel.welcomed(welcome.generation, welcome.known, welcome.last)
        if fate is Fate.UNKNOWN:
            self._start_over()
            return
        self.state = State.UP
        self._hole = False
        sent = list(self._calls.values())
        self._calls.clear()
        for call in sorted(sent, key=by_number):
            self._send(call, now)
        self._send_queued(now)

    def _start_over(self) -> None:
        """The state behind this channel changed: a new one opens.

        What may have been applied is lost sight of. The rest counts as not sent.
        """
        numbered = [call for call in self._calls.values() if call.seq is not None]
        for call in sorted(numbered, key=by_number, reverse=True):
            del self._calls[call.msgid]
            if not self._may_be_applied(call):
                call.seq, call.sent, call.refused, call.error = None, False, False, None
                self._queue.appendleft(call)
            else:
                why = "the database went back to an earlier state"
                self._finish(call, error=call.unknown(self.client_id, why))
        self._channel = ClientChannel()
        self.client_id = os.urandom(CLIENT_ID_BYTES)
        self._greet()

    def _send_queued(self, now: float) -> None:
        while self._queue and self._may_send():
            self._send(self._queue.popleft(), now)

    def _finish(
        self, call: Call, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        call.done = True
        call.result = result
        call.error = error
        if call.then is not None:
            call.then(call)
        self.finished.append(call)
