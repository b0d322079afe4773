"""The client's half of the feed, without waiting: subscriptions over any number of connections.

A watch goes on across lost connections and restarts of the daemon: it subscribes again from the
last cursor it was given. A watch whose events nobody takes is not fed without bound: it leaves
the feed, and comes back from where it was when its events have been taken.
"""

import math
from collections import deque
from typing import Any, Final, Protocol

import msgspec

from sessiond_client._call import Call, Signal
from sessiond_protocol import rows, wire
from sessiond_protocol.requests.feed import (
    EVENTS_METHOD,
    Event,
    Events,
    FeedSubscribe,
    FeedUnsubscribe,
    Subscribed,
)

MOST_WAITING: Final = 5000
UNSUBSCRIBE_SECONDS: Final = 30.0

_EVENTS: Final = frozenset({wire.pack(EVENTS_METHOD), wire.pack(EVENTS_METHOD.encode())})
_decode_events = msgspec.msgpack.Decoder(Events).decode


class Watch:
    """One caller's interest: what it is fed, and from where it goes on.

    ``cursor`` is the id up to which everything has arrived; None: from now on.
    """

    def __init__(self, session_id: str | None, after: int | None) -> None:
        self.session_id = session_id
        self.cursor = after
        self.generation: bytes | None = None
        self.resumed = False
        self.number: int | None = None  # of its subscription on the present connection
        self.call: Call | None = None  # the request for one that is on its way
        self.left = False  # too much was waiting: it is not subscribed until that is taken
        self.error: BaseException | None = None
        self._events: deque[Event] = deque()
        self._signal: Signal | None = None

    @property
    def waiting(self) -> int:
        """How many events wait to be taken."""
        return len(self._events)

    def request(self) -> FeedSubscribe:
        """The subscription that goes on from here."""
        return FeedSubscribe(
            session_id=self.session_id,
            after=self.cursor,
            generation=self.generation,
            resumed=self.resumed,
        )

    def arrived(self, events: Events) -> Signal | None:
        """Keep what came; the signal of whoever waits for it."""
        self._events.extend(events.events)
        self.cursor = events.cursor
        return self.rouse() if self._events else None

    def rouse(self) -> Signal | None:
        """The signal of whoever waits, set."""
        signal, self._signal = self._signal, None
        if signal is not None:
            signal.done = True
        return signal

    def take(self) -> Event | None:
        """The next event, its message decoded; None if none is here. Raises what ended it."""
        if not self._events:
            if self.error is not None:
                raise self.error
            return None
        event = self._events.popleft()
        if event.message is not None:
            message = rows.decode_message(event.message)
            event = msgspec.structs.replace(event, message=message)
        return event

    def signal(self) -> Signal:
        """What is done as soon as there is something to take."""
        if self._signal is None:
            self._signal = Signal(math.inf)
            self._signal.done = bool(self._events) or self.error is not None
        return self._signal


class Sender(Protocol):
    """What a watch needs of the link that it is fed by."""

    finished: list[Signal]

    def start(self, call: Call, now: float) -> None:
        """Send a call, or keep it until there is a connection."""
        ...

    def cancel(self, call: Call) -> int | None:
        """Nobody waits for a call any more."""
        ...


class Watches:
    """Every watch of a link."""

    def __init__(self, link: Sender) -> None:
        self._link = link
        self._watches: set[Watch] = set()
        self._fed: dict[int, Watch] = {}

    def add(self, watch: Watch, now: float) -> None:
        """Begin, or go on with, feeding a watch."""
        self._watches.add(watch)
        watch.left = False
        call = watch.call = Call(watch.request(), math.inf)
        call.then = lambda done: self._subscribed(watch, done)
        self._link.start(call, now)

    def remove(self, watch: Watch, now: float) -> None:
        """Feed a watch no more."""
        self._watches.discard(watch)
        if watch.call is not None:
            self._link.cancel(watch.call)
            watch.call = None
        self._unsubscribe(watch, now)

    def taken(self, watch: Watch, now: float) -> None:
        """Everything that waited was taken: a watch that had left comes back."""
        if watch.left and not watch.waiting and watch in self._watches:
            self.add(watch, now)

    def lost(self) -> None:
        """The connection is gone: every watch goes on with the next one."""
        self._fed.clear()
        for watch in self._watches:
            watch.number = None
            if watch.call is None and not watch.left:
                self.add(watch, now=0.0)  # nothing is sent while there is no connection

    def notified(self, message: wire.NotificationFrame, now: float) -> None:
        """Take events. Notifications of other kinds are not for us."""
        if bytes(message.method) not in _EVENTS or len(message.params) != 1:
            return
        try:
            events = _decode_events(message.params[0])
        except msgspec.DecodeError as error:
            raise wire.FrameError(f"events do not fit: {error}") from error
        watch = self._fed.get(events.subscription)
        if watch is None:
            self._send_unsubscribe(events.subscription, now)
        elif watch.waiting + len(events.events) > MOST_WAITING and watch.waiting:
            watch.left = True
            self._unsubscribe(watch, now)
        else:
            self._rouse(watch.arrived(events))

    def _subscribed(self, watch: Watch, done: Call) -> None:
        watch.call = None
        if done.error is not None:
            self._watches.discard(watch)
            watch.error = done.error
            self._rouse(watch.rouse())
            return
        answer: Subscribed = done.result
        watch.number = answer.subscription
        watch.cursor = answer.cursor
        watch.generation = answer.generation
        watch.resumed = True
        self._fed[answer.subscription] = watch

    def _unsubscribe(self, watch: Watch, now: float) -> None:
        if watch.number is not None:
            self._fed.pop(watch.number, None)
            self._send_unsubscribe(watch.number, now)
            watch.number = None

    def _send_unsubscribe(self, number: int, now: float) -> None:
        call = Call(FeedUnsubscribe(subscription=number), now + UNSUBSCRIBE_SECONDS)
        self._link.start(call, now)

    def _rouse(self, signal: Any) -> None:
        if signal is not None:
            self._link.finished.append(signal)
