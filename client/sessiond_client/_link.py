"""A client's connection to the daemon as a state machine: no socket, no thread, no clock.

Both drivers, the blocking one and the asyncio one, feed it bytes and times and do what it says.
It numbers writes, keeps what is outstanding, sends it again after a lost connection, and decides
what each answer means for its caller.
"""

import os
import random
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import msgspec

from sessiond_client import _errors as errors
from sessiond_protocol import wire
from sessiond_protocol.channel import CLIENT_ID_BYTES, ClientChannel, Fate
from sessiond_protocol.errors import Code, SessiondError
from sessiond_protocol.requests import Kind, Request, result_type
from sessiond_protocol.requests.server import ServerHello, Welcome

_encode = msgspec.msgpack.Encoder().encode
_decode_welcome = msgspec.msgpack.Decoder(Welcome).decode
_DECODERS: dict[type[Request[Any]], Callable[[msgspec.Raw], Any]] = {}

# Refusals for a reason of the daemon that passes by itself: the same number is sent again.
_PASSING = frozenset({Code.OVERLOADED, Code.SHUTTING_DOWN, Code.OUT_OF_ORDER, Code.MIGRATING})

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
TTL_SHARE = 0.9

# Until the first hello is answered the daemon's own limit is not known.
ASSUMED_MAX_REQUEST_BYTES = 16 * 1024 * 1024


class State(Enum):
    """How far a connection is."""

    DOWN = auto()
    GREETING = auto()
    UP = auto()


class Call:
    """One request from its caller's view.

    ``deadline`` is on the driver's clock. ``done`` is set with either ``result`` or ``error``.
    ``wakers`` are the driver's: each is called once, when the call is done.
    """

    __slots__ = (
        "arguments",
        "deadline",
        "done",
        "error",
        "kind",
        "msgid",
        "refused",
        "request_type",
        "result",
        "sent",
        "seq",
        "wakers",
    )

    def __init__(self, request: Request[Any], deadline: float) -> None:
        self.request_type = type(request)
        self.kind = request.KIND
        self.arguments = _encode(request)
        self.deadline = deadline
        self.msgid = 0
        self.seq: int | None = None
        self.sent = False
        self.refused = False
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.wakers: list[Callable[[Call], None]] = []

    def value(self) -> Any:
        """The result of a call that is done; raises its error."""
        if self.error is not None:
            raise self.error
        return self.result


class Link:
    """The state of one channel over any number of connections.

    ``out`` holds bytes to send. Every method that may finish calls collects them in
    ``finished``, which the driver empties.
    """

    def __init__(self, database: str, program: str) -> None:
        self._database = database
        self._program = program
        self._channel = ClientChannel()
        self.client_id = os.urandom(CLIENT_ID_BYTES)
        self._reader = wire.FrameReader(2**31 - 1)
        self._calls: dict[int, Call] = {}  # sent, in order
        self._queue: deque[Call] = deque()  # not sent yet
        self._next_msgid = 1
        self._hello_msgid = 0
        self._pause = FIRST_PAUSE
        self.state = State.DOWN
        self.out = bytearray()
        self.finished: list[Call] = []
        self.welcome: Welcome | None = None
        self.resend_at: float | None = None
        self.trouble: SessiondError | None = None
        self._unanswered_hellos = 0

    @property
    def busy(self) -> bool:
        """Whether any call is not done."""
        return bool(self._calls or self._queue)

    @property
    def last_seq(self) -> int:
        """The highest number given to a write."""
        return self._channel.sent

    def unfinished(self) -> list[Call]:
        """Every call that somebody waits for."""
        return [call for call in (*self._calls.values(), *self._queue) if not call.done]

    def writes_before(self, seq: int) -> list[Call]:
        """Writes that are not done: those numbered up to ``seq`` and those without a number."""
        sent = [call for call in self._calls.values() if call.kind is Kind.WRITE]
        return [call for call in sent if call.seq is not None and call.seq <= seq] + [
            call for call in self._queue if call.kind is Kind.WRITE
        ]

    # --- the caller's side -----------------------------------------------------------------

    def start(self, call: Call, now: float) -> None:
        """Send a call, or keep it until there is a connection."""
        limit = self.welcome.limits.max_request_bytes if self.welcome else ASSUMED_MAX_REQUEST_BYTES
        size = len(call.arguments) + 128
        if size > limit:
            message = f"message of {size} bytes exceeds max_request_bytes {limit}"
            self._finish(call, error=errors.TooLarge(message))
        elif self.state is State.UP and not self._queue and self._room():
            self._send(call, now)
        else:
            self._queue.append(call)

    def _room(self) -> bool:
        welcome = self.welcome
        return welcome is None or len(self._channel.outstanding) < welcome.limits.max_undecided

    def _send(self, call: Call, now: float) -> None:
        if call.kind is Kind.WRITE and call.seq is None:
            call.seq = self._channel.number()
        call.sent = True
        call.refused = False
        call.msgid = self._next_msgid
        self._next_msgid = call.msgid % 0xFFFF_FFFF + 1
        self._calls[call.msgid] = call
        # The daemon's time for it runs out a little sooner than ours, so that it can still say so.
        ttl = max(0.0, (call.deadline - now) * TTL_SHARE)
        if call.kind is Kind.WRITE:
            place = wire.Place(seq=call.seq, floor=self._channel.floor, ttl=ttl)
        elif call.kind is Kind.READ:
            place = wire.Place(after=self._channel.sent or None, ttl=ttl)
        else:
            place = wire.Place(ttl=ttl)
        self.out += wire.request(call.msgid, call.request_type.METHOD, call.arguments, place)

    def give_up(self, call: Call) -> None:
        """The caller's time ran out: say what can be said, and stop waiting."""
        if call.done:
            return
        method = call.request_type.METHOD
        if not call.sent:
            self._queue.remove(call)
            trouble = self.trouble
            if trouble is not None:
                self._finish(call, error=trouble)
            else:
                self._finish(call, error=errors.Unavailable(f"{method} was not sent in time"))
            return
        self._calls.pop(call.msgid, None)
        if call.seq is None:
            self._finish(call, error=errors.Timeout(f"{method} was not answered in time"))
            return
        if call.refused:
            self._channel.given_up(call.seq)
            self._finish(call, error=call.error or errors.Timeout(f"{method} was refused"))
            return
        self._channel.abandon(call.seq)
        self._finish(call, error=self._unknown(call, "the deadline passed without an answer"))

    def cancel(self, call: Call) -> int | None:
        """The caller went away; the number under which the write may still happen, if any."""
        if call.done:
            return None
        if not call.sent:
            self._queue.remove(call)
            call.done = True
            return None
        call.done = True
        if call.seq is not None:
            self._channel.abandon(call.seq)
        return call.seq

    def _unknown(self, call: Call, why: str) -> errors.OutcomeUnknown:
        return errors.OutcomeUnknown(
            f"nobody can say whether {call.request_type.METHOD} was applied: {why}",
            {"client_id": self.client_id, "seq": call.seq},
        )

    def fail_all(self, error: SessiondError) -> None:
        """End everything that was not sent with this error, everything sent as unknown."""
        for call in list(self._queue):
            self._finish(call, error=error)
        self._queue.clear()
        for call in list(self._calls.values()):
            unknown = self._unknown(call, str(error)) if call.seq is not None else error
            self._finish(call, error=unknown)
        self._calls.clear()

    @property
    def pause_before_dialling(self) -> float:
        """Seconds to wait before the next connection: none, unless hello went unanswered."""
        if not self._unanswered_hellos:
            return 0.0
        longest = min(FIRST_PAUSE * 2**self._unanswered_hellos, LONGEST_PAUSE)
        return random.uniform(longest / 2, longest)

    # --- the connection's side -------------------------------------------------------------

    def connected(self) -> None:
        """A connection was made: greet."""
        self.state = State.GREETING
        self._unanswered_hellos += 1
        self._reader = wire.FrameReader(2**31 - 1)
        self.out.clear()
        self._greet()

    def _greet(self) -> None:
        channel = self._channel
        hello = ServerHello(
            protocol=wire.PROTOCOL_VERSION,
            client=self._program,
            client_id=self.client_id,
            pid=os.getpid(),
            database=self._database,
            acked=channel.acked,
            sent=channel.sent,
            floor=channel.floor,
        )
        self._hello_msgid = 0
        self.out += wire.request(0, hello.METHOD, _encode(hello), None)

    def lost(self) -> None:
        """The connection is gone. What was sent waits to be sent again."""
        self.state = State.DOWN
        self.resend_at = None
        self.out.clear()
        self._channel.lost()
        for msgid in [msgid for msgid, call in self._calls.items() if call.done]:
            del self._calls[msgid]

    def received(self, data: bytes, now: float) -> None:
        """Bytes arrived. Raises :class:`SessiondError` if the connection is of no use."""
        self._reader.feed(data)
        while (frame := self._reader.next_frame()) is not None:
            message = wire.decode_frame(frame)
            if isinstance(message, wire.ResponseFrame):
                self._answered(message, now)
            elif isinstance(message, wire.NotificationFrame):
                self.notified(message)

    def notified(self, message: wire.NotificationFrame) -> None:
        """A notification arrived; none is expected yet."""

    def _answered(self, message: wire.ResponseFrame, now: float) -> None:
        call = self._calls.get(message.msgid)
        if call is None:
            if message.msgid == self._hello_msgid and self.state is State.GREETING:
                self._welcomed(message, now)
            elif message.msgid == 0 and message.error is not None:
                raise errors.from_wire(message.error)
            return
        if message.error is not None and self._refused(call, message.error, now):
            return
        del self._calls[message.msgid]
        if call.seq is not None:
            self._channel.answered(call.seq)
            self._pause = FIRST_PAUSE
        if not call.done:
            if message.error is not None:
                self._finish(call, error=errors.from_wire(message.error))
            else:
                self._finish(call, result=_decode_result(call.request_type, message.result))
        if self._queue and self.state is State.UP:
            self._send_queued(now)

    def _refused(
        self, call: Call, error: tuple[str, str, dict[str, Any] | None], now: float
    ) -> bool:
        """Handle a refusal that decides nothing; False if the answer is final."""
        if call.seq is None:
            if error[0] not in _PASSING:
                return False
        elif (error[2] or {}).get("applied", True) is not False:
            return False
        if error[0] in _PASSING:
            call.refused = True
            call.error = errors.from_wire(error)
            if self.resend_at is None:
                self.resend_at = now + self._pause
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
            return True
        # Final for the caller, but the number was not used: the floor passes it.
        del self._calls[call.msgid]
        assert call.seq is not None
        self._channel.given_up(call.seq)
        self._finish(call, error=errors.from_wire(error))
        return True

    def resend_refused(self, now: float) -> None:
        """Send again, in order, what was refused for a reason that may have passed."""
        self.resend_at = None
        refused = [call for call in self._calls.values() if call.refused]
        for call in refused:
            del self._calls[call.msgid]
        for call in sorted(refused, key=_by_number):
            if call.done:
                if call.seq is not None:
                    self._channel.given_up(call.seq)
            else:
                call.error = None
                self._send(call, now)

    def _welcomed(self, message: wire.ResponseFrame, now: float) -> None:
        if message.error is not None:
            raise errors.from_wire(message.error)
        welcome = _decode_welcome(message.result)
        if welcome.protocol != wire.PROTOCOL_VERSION:
            raise errors.UnknownMethod(
                f"the daemon speaks protocol {welcome.protocol},"
                f" this library speaks {wire.PROTOCOL_VERSION}: update the older one"
            )
        self.welcome = welcome
        self.trouble = None
        self._unanswered_hellos = 0
        fate = self._channel.welcomed(welcome.generation, welcome.known, welcome.last)
        if fate is Fate.UNKNOWN:
            self._start_over()
            return
        self.state = State.UP
        sent = list(self._calls.values())
        self._calls.clear()
        for call in sorted(sent, key=_by_number):
            self._send(call, now)
        self._send_queued(now)

    def _start_over(self) -> None:
        """The state behind this channel changed: sent writes are lost sight of, a new one opens."""
        for call in [call for call in self._calls.values() if call.seq is not None]:
            del self._calls[call.msgid]
            if not call.done:
                unknown = self._unknown(call, "the database went back to an earlier state")
                self._finish(call, error=unknown)
        self._channel = ClientChannel()
        self.client_id = os.urandom(CLIENT_ID_BYTES)
        self._greet()

    def _send_queued(self, now: float) -> None:
        while self._queue and self._room():
            self._send(self._queue.popleft(), now)

    def _finish(
        self, call: Call, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        call.done = True
        call.result = result
        call.error = error
        self.finished.append(call)


def _by_number(call: Call) -> tuple[int, int]:
    return (call.seq if call.seq is not None else 2**63, call.msgid)


def _decode_result(request_type: type[Request[Any]], result: msgspec.Raw) -> Any:
    decode = _DECODERS.get(request_type)
    if decode is None:
        wanted = result_type(request_type)
        decode = _DECODERS[request_type] = msgspec.msgpack.Decoder(wanted).decode
    return decode(result)
