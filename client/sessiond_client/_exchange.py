"""One blocking socket: connect, send, receive, wait, wake.

Everything here is done by one thread at a time, the leader of :class:`~sessiond_client._pump.Pump`;
the lock guards the link's state against those who only hand calls over.
"""

import contextlib
import math
import select
import socket
import threading
from collections.abc import Callable
from typing import Final

from sessiond_client import _errors as errors
from sessiond_client._clock import clock
from sessiond_client._dial import FIRST_PAUSE, LONGEST_PAUSE
from sessiond_client._link import Link
from sessiond_protocol.errors import SessiondError
from sessiond_protocol.wire import FrameError

RECEIVE_BYTES: Final = 262_144

Pause = Callable[[float], None]
Dial = Callable[[float, Pause], socket.socket]


class Exchange:
    """A link's bytes over a socket, and a way to wake the thread that waits on it.

    ``dial`` makes a connected socket within a deadline, waiting with the function it is given,
    or raises :class:`~sessiond_client.Unavailable`.
    """

    def __init__(self, link: Link, dial: Dial) -> None:
        self.link = link
        self._dial = dial
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._wanted = select.POLLIN  # what the socket is polled for
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._woken = False
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise errors.Closed("the connection is closed")

    def _push(self) -> None:
        """Send what the socket takes at once; the leader sends the rest."""
        link = self.link
        if self._socket is None or not link.out:
            return
        try:
            sent = self._socket.send(link.out)
        except OSError:
            return  # the leader meets the same error and handles it
        del link.out[:sent]
        if link.queued:
            link.refill(clock())

    def _wake_if_needed(self) -> None:
        if self._socket is None or self.link.out:
            self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake_out.send(b"w")

    def _step(self, until: float) -> None:
        """Connect, or send, or receive: whatever is next, until a time at most."""
        if self._socket is None:
            self._connect(until if until < math.inf else clock() + 1.0)
        else:
            self._exchange(self._socket, until)
        self._wake_finished()

    def _connect(self, until: float) -> None:
        pause = self.link.pause_before_dialling
        try:
            if pause:
                self._pause(min(pause, max(0.0, until - clock())))
            connected = self._dial(until, self._pause)
        except SessiondError as error:
            with self._lock:
                self.link.trouble = error
                # Not for want of time: trying again would not help.
                if not error.retryable or until - clock() > LONGEST_PAUSE:
                    self.link.fail_all(error)
            if not self._closed:
                self._sleep(clock() + FIRST_PAUSE)
            return
        connected.setblocking(False)
        with self._lock:
            if self._closed:
                connected.close()
                return
            self._socket = connected
            self._poll = select.poll()
            self._wanted = select.POLLIN
            self._poll.register(connected, self._wanted)
            self._poll.register(self._wake_in, select.POLLIN)
            self.link.connected()

    def _exchange(self, connected: socket.socket, until: float) -> None:
        with self._lock:
            link = self.link
            now = clock()
            if link.resend_at is not None:
                if link.resend_at <= now:
                    link.resend_refused(now)
                else:
                    until = min(until, link.resend_at)
            if link.out and not self._send(connected):
                return
            wanted = select.POLLIN | select.POLLOUT if link.out else select.POLLIN
            if wanted != self._wanted:
                self._wanted = wanted
                self._poll.modify(connected, wanted)
        timeout = None if until == math.inf else math.ceil(max(0.0, until - now) * 1000)
        for descriptor, _ in self._poll.poll(timeout):
            if descriptor == self._wake_in.fileno():
                self._clear_wake()
            else:
                self._receive(connected)

    def _pause(self, seconds: float) -> None:
        """Wait while there is no connection; ends early, with an error, when it is closed."""
        end = clock() + seconds
        while not self._closed and clock() < end:
            self._sleep(end)
        self._check_open()

    def _sleep(self, until: float) -> None:
        """Wait until somebody wants something."""
        timeout = None if until == math.inf else max(0.0, until - clock())
        select.select([self._wake_in], [], [], timeout)
        self._clear_wake()

    def _clear_wake(self) -> None:
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                self._wake_in.recv(64)
            self._woken = False

    def _send(self, connected: socket.socket) -> bool:
        link = self.link
        try:
            sent = connected.send(link.out)
            del link.out[:sent]
            if link.queued:
                link.refill(clock())
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
            except FrameError as error:
                self.link.trouble = errors.Unavailable(f"the daemon's answer is garbled: {error}")
                self._lose()
            except SessiondError as error:
                self.link.trouble = error
                if not error.retryable:
                    self.link.fail_all(error)
                self._lose()
            else:
                if self.link.out:
                    self._send(connected)

    def _lose(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self.link.lost()

    def _wake_finished(self) -> None:
        link = self.link
        while link.finished:
            with self._lock:
                finished, link.finished = link.finished, []
            for call in finished:
                call.wake()
