"""The blocking driver: one socket per process and database, shared by every thread.

Whoever waits for an answer reads the socket for everybody (the *leader*); the others wait to be
woken. So a plain blocking call costs no thread and no hand-over. Once a call's answer is wanted
later (a future), a background thread becomes the leader for good.

No lock is held over a round trip: the lock guards the link's state, the leader waits without it.
"""

import heapq
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any, Final

from sessiond_client import _errors as errors
from sessiond_client._call import Call, Signal
from sessiond_client._clock import clock
from sessiond_client._exchange import Dial, Exchange
from sessiond_client._link import Link
from sessiond_client._watch import Watch
from sessiond_protocol.requests.server import ServerPing

# Calls that wait to be sent before a caller that does not wait for answers is slowed down.
MAX_QUEUED: Final = 4096

CLOSE_SECONDS: Final = 5.0

Errand = Callable[[], None]


class Pump(Exchange):
    """Drives a link over a blocking program's socket; any thread may call."""

    def __init__(self, link: Link, dial: Dial) -> None:
        super().__init__(link, dial)
        self._leader: int | None = None  # the thread that reads for everybody
        self._followers: list[threading.Event] = []
        self._thread: threading.Thread | None = None
        self._wants_lead = False  # the background thread waits for the leader to make way
        self._errands: list[tuple[float, int, Errand]] = []
        self._errand_numbers = itertools.count()
        self._sweep_at = math.inf  # no deadline of an unfinished call is sooner

    # --- callers ---------------------------------------------------------------------------

    def call(self, call: Call) -> Any:
        """Send a call and wait for its result; raises its error.

        A caller that is interrupted (by a signal's exception) leaves nothing behind that would
        still be sent.
        """
        me = threading.get_ident()
        nested = self._leader == me  # a callback of the leader makes a call itself
        try:
            self._submit(call, me)
            if not call.done:
                self._await(call, me, nested=nested)
        finally:
            if not nested and self._leader == me:
                self._stop_leading()
        return call.value()

    def _submit(self, call: Call, me: int) -> None:
        """Send a call, or keep it until there is a connection; lead if nobody does."""
        with self._lock:
            self._check_open()
            self.link.start(call, clock())
            self._push()
            if self._leader is not None:
                self._wake_if_needed()
            elif not self._wants_lead and not call.done:
                self._leader = me
        if self.link.finished:
            self._wake_finished()

    def _await(self, call: Call, me: int, *, nested: bool) -> None:
        try:
            if not nested and self._leader == me:
                self._lead(call, call.deadline)
                self._stop_leading()
            if not call.done:
                self.wait(call)
        except BaseException:
            with self._lock:
                self.link.cancel(call)
            raise

    def _lead(self, call: Signal, until: float) -> None:
        """Read for everybody until a call is done, or somebody else wants to."""
        while not call.done and clock() < until and not self._wants_lead:
            self._step(until)

    def hand_over(self, calls: list[Call]) -> None:
        """Leave calls, in order, to the background thread; their wakers tell what became of
        them. Never waits."""
        self.run_in_background()
        with self._lock:
            self._check_open()
            now = clock()
            for call in calls:
                self.link.start(call, now)
                self._sweep_at = min(self._sweep_at, call.deadline)
            self._wake()

    def make_room(self, deadline: float) -> None:
        """Wait while too much waits to be sent: a sender faster than the disk is slowed down."""
        while len(self.link.queued) >= MAX_QUEUED and clock() < deadline:
            with self._lock:
                waiting = self.link.queued[0] if self.link.queued else None
            if waiting is not None:
                self.wait(waiting, deadline)

    def settle(self, deadline: float) -> None:
        """Wait until every write that was sent or queued before is answered.

        Raises :class:`~sessiond_client.Timeout` when the deadline comes first.
        """
        with self._lock:
            waiting = self.link.writes_before(self.link.last_seq)
        for call in waiting:
            self.wait(call, deadline)
            if not call.done:
                raise errors.Timeout("earlier writes were not answered in time")

    def reach(self, deadline: float) -> None:
        """Return once the daemon has answered hello; raises why not."""
        if self.link.welcome is None:
            self.call(Call(ServerPing(), deadline))

    def watch(self, watch: Watch) -> None:
        """Begin to feed a watch."""
        with self._lock:
            self._check_open()
            self.link.watches.add(watch, clock())
            self._push()
            self._wake()

    def unwatch(self, watch: Watch) -> None:
        """Feed a watch no more; whoever waits for it is woken."""
        with self._lock:
            self.link.watches.remove(watch, clock())
            signal = watch.rouse()
            if signal is not None:
                self.link.finished.append(signal)
            self._push()
            self._wake()
        self._wake_finished()

    def await_events(self, watch: Watch) -> None:
        """Wait until a watch has events to take."""
        with self._lock:
            self._check_open()
            self.link.watches.taken(watch, clock())
            signal = watch.signal()
            self._push()
        self.wait(signal)

    def wait(self, call: Signal, until: float = math.inf) -> None:
        """Wait until a call is done, or until a time, reading for everybody if nobody does."""
        until = min(until, call.deadline)
        while not call.done:
            if clock() >= until:
                if until >= call.deadline and isinstance(call, Call):
                    self._give_up(call)
                return
            self._wait_once(call, until)

    def wait_if_leading(self, call: Signal, timeout: float | None) -> None:
        """Wait for a call on the thread that reads for everybody: nobody else would."""
        if self._leader == threading.get_ident():
            self.wait(call, math.inf if timeout is None else clock() + timeout)

    def _wait_once(self, call: Signal, until: float) -> None:
        event: threading.Event | None = None
        me = threading.get_ident()
        nested = self._leader == me  # a callback of the leader makes a call itself
        try:
            if not nested:
                event = self._lead_or_follow(call, me)
            if nested:
                while not call.done and clock() < until:
                    self._step(until)
            elif event is None:
                self._lead(call, until)
            else:
                event.wait(None if until == math.inf else max(0.0, until - clock()))
        finally:
            if event is not None:
                self._unfollow(call, event)
            elif not nested and self._leader == me:
                self._stop_leading()

    def _lead_or_follow(self, call: Signal, me: int) -> threading.Event | None:
        with self._lock:
            if call.done:
                return None
            if self._leader is None and not self._wants_lead:
                self._leader = me
                return None
            event = threading.Event()
            call.wakers += (lambda _: event.set(),)
            self._followers.append(event)
            return event

    def _unfollow(self, call: Signal, event: threading.Event) -> None:
        with self._lock:
            if event in self._followers:
                self._followers.remove(event)
            elif call.done and self._leader is None and self._followers:
                self._followers.pop(0).set()  # it was this one's turn to lead: pass it on

    def _stop_leading(self) -> None:
        with self._lock:
            self._leader = None
            if self._followers:
                self._followers.pop(0).set()

    def _give_up(self, call: Call) -> None:
        with self._lock:
            self.link.give_up(call)
        self._wake_finished()

    # --- the background thread -------------------------------------------------------------

    def run_in_background(self) -> None:
        """Have a thread read from now on, for calls whose answers are wanted later."""
        if self._thread is not None:
            return
        with self._lock:
            self._check_open()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._background, name="sessiond", daemon=True
                )
                self._thread.start()

    def later(self, seconds: float, errand: Errand) -> None:
        """Run an errand on the background thread after so many seconds."""
        self.run_in_background()
        with self._lock:
            self._check_open()
            heapq.heappush(self._errands, (clock() + seconds, next(self._errand_numbers), errand))
            self._wake()

    def _background(self) -> None:
        if not self._take_over():
            return
        try:
            while not self._closed:
                self._background_step()
        finally:
            self._stop_leading()

    def _take_over(self) -> bool:
        """Become the leader as soon as the present one makes way; False when it is closed."""
        while not self._closed:
            with self._lock:
                if self._leader is None:
                    self._leader = threading.get_ident()
                    self._wants_lead = False
                    return True
                event = threading.Event()
                self._followers.insert(0, event)
                self._wants_lead = True
                self._wake()
            event.wait()
        return False

    def _background_step(self) -> None:
        now = clock()
        if now >= self._sweep_at:
            self._sweep(now)
        self._run_errands(now)
        errand_at = self._errands[0][0] if self._errands else math.inf
        if self._socket is not None:
            self._step(min(self._sweep_at, errand_at))
        elif self.link.busy:
            self._sweep(now)
            self._step(self._sweep_at)
        else:
            self._sleep(errand_at)

    def _sweep(self, now: float) -> None:
        """End the calls whose time is up."""
        with self._lock:
            calls = self.link.unfinished()
            for call in calls:
                if call.deadline <= now:
                    self.link.give_up(call)
            self._sweep_at = min(
                (call.deadline for call in calls if not call.done), default=math.inf
            )
        self._wake_finished()

    def _run_errands(self, now: float) -> None:
        while self._errands and self._errands[0][0] <= now and not self._closed:
            with self._lock:
                errand = heapq.heappop(self._errands)[2]
            errand()

    # --- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Disconnect. What is outstanding ends as unknown."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.link.fail_all(errors.Closed("the connection was closed"))
            self._lose()
            self._wake()
        self._wake_finished()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS)
        if self._await_no_leader():
            self._wake_in.close()
            self._wake_out.close()

    def _await_no_leader(self) -> bool:
        """Whether the last leader has left, so that nobody waits on the descriptors any more."""
        left = threading.Event()
        with self._lock:
            if self._leader is None or self._leader == threading.get_ident():
                return True
            self._followers.insert(0, left)
        return left.wait(CLOSE_SECONDS)

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the parent's socket without a word on it."""
        if self._socket is not None:
            self._socket.close()
        self._wake_in.close()
        self._wake_out.close()
