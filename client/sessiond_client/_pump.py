"""The blocking driver: one socket per process and database, shared by every thread.

Whoever waits for an answer reads the socket for everybody (the *leader*); the others wait to be
woken. So a plain blocking call costs no thread and no hand-over. Once a call's answer is wanted
later (a future), a background thread becomes the leader for good.

No lock is held over a round trip: the lock guards the link's state, the leader waits without it.
"""

import select
import socket
import threading
from collections.abc import Callable
from typing import Any

from sessiond_client import _errors as errors
from sessiond_client._clock import clock
from sessiond_client._link import Call, Link
from sessiond_protocol.errors import SessiondError
from sessiond_protocol.requests.server import ServerPing
from sessiond_protocol.wire import FrameError

RECEIVE_BYTES = 262_144
Dial = Callable[[float], socket.socket]


class Pump:
    """Drives a link over a blocking program's socket.

    ``dial`` makes a connected socket within a deadline, or raises
    :class:`~sessiond_client.Unavailable`.
    """

    def __init__(self, link: Link, dial: Dial) -> None:
        self.link = link
        self._dial = dial
        self._lock = threading.Lock()
        self._leading = False
        self._followers: list[threading.Event] = []
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._woken = False
        self._thread: threading.Thread | None = None
        self._closed = False

    # --- callers ---------------------------------------------------------------------------

    def call(self, call: Call) -> Any:
        """Send a call and wait for its result; raises its error."""
        self.submit(call)
        self.wait(call)
        return call.value()

    def submit(self, call: Call) -> None:
        """Send a call, or keep it until there is a connection."""
        with self._lock:
            if self._closed:
                raise errors.Closed("the connection is closed")
            self.link.start(call, clock())
            self._push()
            if self._thread is not None or self._leading:
                self._wake_if_needed()
        self._wake_finished()

    def _push(self) -> None:
        """Send what the socket takes at once; the leader sends the rest."""
        link = self.link
        if self._socket is None or not link.out or self._thread is not None:
            return
        try:
            sent = self._socket.send(link.out)
        except OSError:
            return  # the leader meets the same error and handles it
        del link.out[:sent]

    def _wake_if_needed(self) -> None:
        if self._woken or (self._socket is not None and not self.link.out):
            return
        self._woken = True
        self._wake_out.send(b"w")

    def wait(self, call: Call) -> None:
        """Wait until a call is done, reading for everybody if nobody else does."""
        while not call.done:
            event = self._lead_or_follow(call)
            if event is None:
                self._lead(call)
            else:
                event.wait(max(0.0, call.deadline - clock()))
                self._unfollow(call, event)

    def _lead_or_follow(self, call: Call) -> threading.Event | None:
        with self._lock:
            if call.done or not self._leading:
                self._leading = not call.done
                return None
            event = threading.Event()
            call.wakers.append(lambda _: event.set())
            self._followers.append(event)
            return event

    def _lead(self, call: Call) -> None:
        if call.done:
            return
        try:
            while not call.done:
                if clock() >= call.deadline:
                    self._give_up(call)
                else:
                    self._step(call.deadline)
        finally:
            self._stop_leading()

    def _unfollow(self, call: Call, event: threading.Event) -> None:
        if not call.done and clock() >= call.deadline:
            self._give_up(call)
        with self._lock:
            if event in self._followers:
                self._followers.remove(event)
            elif call.done and not self._leading and self._followers:
                self._followers.pop(0).set()  # it was this one's turn to lead: pass it on

    def _stop_leading(self) -> None:
        with self._lock:
            self._leading = False
            if self._followers:
                self._followers.pop(0).set()

    def _give_up(self, call: Call) -> None:
        with self._lock:
            self.link.give_up(call)
        self._wake_finished()

    def drain(self, deadline: float, wanted: Callable[[], list[Call]]) -> None:
        """Wait until every call of ``wanted()`` is done, as far as the deadline allows."""
        while True:
            with self._lock:
                pending = [call for call in wanted() if not call.done]
            if not pending or clock() >= deadline:
                return
            self.wait(pending[0])

    def reach(self, deadline: float) -> None:
        """Return once the daemon has answered hello; raises why not."""
        if self.link.welcome is None:
            self.call(Call(ServerPing(), deadline))

    # --- the leader ------------------------------------------------------------------------

    def run_in_background(self) -> None:
        """Have a thread read from now on, for calls whose answers are wanted later."""
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._background, name="sessiond", daemon=True)
        self._thread.start()

    def _background(self) -> None:
        while not self._closed:
            with self._lock:
                event = threading.Event() if self._leading else None
                if event is not None:
                    self._followers.insert(0, event)
                self._leading = True
            if event is not None:
                event.wait(1.0)
                with self._lock:
                    if event in self._followers:
                        self._followers.remove(event)
                continue
            try:
                while not self._closed:
                    self._background_step()
            finally:
                self._stop_leading()

    def _background_step(self) -> None:
        with self._lock:
            calls = self.link.unfinished()
        soonest = min((call.deadline for call in calls), default=None)
        now = clock()
        if soonest is not None and soonest <= now:
            for call in calls:
                if call.deadline <= now:
                    self._give_up(call)
            return
        if self._socket is None and not calls:
            self._sleep(None)
        else:
            self._step(soonest)

    def _step(self, deadline: float | None) -> None:
        """Connect, or send, or receive: whatever is next, until the deadline at most."""
        if self._socket is None:
            self._connect(clock() + 1.0 if deadline is None else deadline)
        else:
            self._exchange(self._socket, deadline)
        self._wake_finished()

    def _connect(self, deadline: float) -> None:
        pause = self.link.pause_before_dialling
        if pause:
            self._sleep(min(pause, max(0.0, deadline - clock())))
        try:
            connected = self._dial(deadline)
        except SessiondError as error:
            with self._lock:
                self.link.trouble = error
                if not getattr(error, "retryable", False):
                    self.link.fail_all(error)
            return
        connected.setblocking(False)
        with self._lock:
            self._socket = connected
            self._poll = select.poll()
            self._poll.register(connected, select.POLLIN)
            self._poll.register(self._wake_in, select.POLLIN)
            self.link.connected()

    def _exchange(self, connected: socket.socket, deadline: float | None) -> None:
        with self._lock:
            link = self.link
            now = clock()
            if link.resend_at is not None and link.resend_at <= now:
                link.resend_refused(now)
            if not self._send(connected):
                return
            ends = [each for each in (deadline, link.resend_at) if each is not None]
            timeout = max(0.0, min(ends) - now) if ends else None
            self._poll.modify(connected, select.POLLIN | (select.POLLOUT if link.out else 0))
        events = self._poll.poll(None if timeout is None else timeout * 1000)
        for descriptor, _ in events:
            if descriptor == self._wake_in.fileno():
                self._clear_wake()
            else:
                self._receive(connected)

    def _sleep(self, timeout: float | None) -> None:
        select.select([self._wake_in], [], [], timeout)
        self._clear_wake()

    def _clear_wake(self) -> None:
        with self._lock:
            try:
                self._wake_in.recv(64)
            except BlockingIOError:
                pass
            self._woken = False

    def _send(self, connected: socket.socket) -> bool:
        link = self.link
        if link.out:
            try:
                sent = connected.send(link.out)
                del link.out[:sent]
            except BlockingIOError:
                pass
            except OSError:
                self._lose()
                return False
        return True

    def _receive(self, connected: socket.socket) -> None:
        try:
            data = connected.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        with self._lock:
            if not data:
                self._lose()
                return
            try:
                self.link.received(data, clock())
                self._send(connected)
            except FrameError as error:
                self.link.trouble = errors.Unavailable(f"the daemon's answer is garbled: {error}")
                self._lose()
            except SessiondError as error:
                self.link.trouble = error
                if not error.retryable:
                    self.link.fail_all(error)
                self._lose()

    def _lose(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.link.lost()

    def _wake_finished(self) -> None:
        while self.link.finished:
            try:
                call = self.link.finished.pop(0)
            except IndexError:
                return
            for wake in call.wakers:
                wake(call)

    # --- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Disconnect. What is outstanding ends as unknown."""
        with self._lock:
            self._closed = True
            self.link.fail_all(errors.Closed("the connection was closed"))
            self._lose()
            if not self._woken:
                self._woken = True
                self._wake_out.send(b"w")
        self._wake_finished()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)
        self._wake_in.close()
        self._wake_out.close()

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the parent's socket without a word on it."""
        if self._socket is not None:
            self._socket.close()
        self._wake_in.close()
        self._wake_out.close()


