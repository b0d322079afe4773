"""The asyncio driver: one socket per event loop and database, shared by every task.

Everything runs on the loop's thread: no lock. Calls that are made in one turn of the loop leave
in one ``send``. The socket is watched with ``add_reader`` and ``add_writer``, which every loop
has, so that the same bytes go the same way on asyncio's own loop and on uvloop.
"""

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sessiond_client import _errors as errors
from sessiond_client._call import Call, Signal
from sessiond_client._clock import clock
from sessiond_client._dial import FIRST_PAUSE, LONGEST_PAUSE
from sessiond_client._link import Link
from sessiond_client._watch import Watch
from sessiond_protocol.errors import SessiondError
from sessiond_protocol.requests.server import ServerPing
from sessiond_protocol.wire import FrameError

RECEIVE_BYTES: Final = 65_536  # what is decoded in one turn: other tasks wait for it
WATCH_SECONDS: Final = 1.0  # how long one try to connect takes when only watches want it

Dial = Callable[[float], Awaitable[socket.socket]]


class LoopPump:
    """Drives a link on an event loop. ``dial`` makes a connected socket within a deadline, or
    raises :class:`~sessiond_client.Unavailable`.
    """

    def __init__(self, link: Link, dial: Dial, loop: asyncio.AbstractEventLoop) -> None:
        self.link = link
        self._dial = dial
        self.loop = loop
        self._socket: socket.socket | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._flush_planned = False
        self._blocked = False  # the socket takes no more: wait until it is writable
        self._resending: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._sweep_at = math.inf  # no deadline of an unfinished call is sooner
        self._closed = False

    # --- callers ---------------------------------------------------------------------------

    async def call(self, call: Call) -> Any:
        """Send a call and wait for its result; raises its error.

        When the caller is cancelled, a call whose bytes are not in the send buffer is never
        sent. One that was sent stays outstanding and its answer is swallowed; for a write the
        ``CancelledError`` then has the attribute ``data`` with ``client_id`` and ``seq``.
        """
        self.submit(call)
        if not call.done:
            try:
                await self.done(call)
            except asyncio.CancelledError as cancelled:
                number = self.cancel(call)
                if number is not None:
                    # The same exception with an attribute, not a subclass: asyncio.timeout()
                    # looks for exactly this class.
                    vars(cancelled)["data"] = number
                    cancelled.add_note(
                        f"{call.request_type.METHOD} was sent and may still be applied:"
                        " request_status(**error.data) tells"
                    )
                raise
        return call.value()

    def cancel(self, call: Call) -> dict[str, Any] | None:
        """The caller went away. For a write that may still be applied, what
        ``request_status`` wants to know of it."""
        if isinstance(call.error, errors.OutcomeUnknown):
            return call.error.data
        client_id, seq = self.link.client_id, self.link.cancel(call)
        return None if seq is None else {"client_id": client_id, "seq": seq}

    def submit(self, call: Call) -> None:
        """Send a call at the end of this turn of the loop, or once there is a connection."""
        self._check_open()
        self.link.start(call, clock())
        if call.deadline < self._sweep_at:
            self._plan_sweep(call.deadline)
        if self.link.finished:
            self._wake_finished()
        self._send_soon()

    def done(self, call: Signal) -> asyncio.Future[None]:
        """A future that ends when a call is done, whatever came of it."""
        future: asyncio.Future[None] = self.loop.create_future()

        def wake(_: Signal) -> None:
            if not future.done():
                future.set_result(None)

        if call.done:
            future.set_result(None)
        else:
            call.wakers += (wake,)
        return future

    def watch(self, watch: Watch) -> None:
        """Begin to feed a watch."""
        self._check_open()
        self.link.watches.add(watch, clock())
        self._send_soon()

    def unwatch(self, watch: Watch) -> None:
        """Feed a watch no more; whoever waits for it is woken."""
        self.link.watches.remove(watch, clock())
        signal = watch.rouse()
        if signal is not None:
            self.link.finished.append(signal)
        if not self._closed:
            self._send_soon()
        self._wake_finished()

    async def await_events(self, watch: Watch) -> None:
        """Wait until a watch has events to take."""
        self._check_open()
        self.link.watches.taken(watch, clock())
        self._send_soon()
        await self.done(watch.signal())

    def _check_open(self) -> None:
        if self._closed:
            raise errors.Closed("the connection is closed")

    def _send_soon(self) -> None:
        """Send at the end of this turn of the loop, or once there is a connection."""
        if self._socket is None:
            self._connect_if_needed()
        elif self.link.out and not self._flush_planned and not self._blocked:
            self._flush_planned = True
            self.loop.call_soon(self._flush)

    async def settle(self, deadline: float) -> None:
        """Wait until every write that was sent or queued before is answered.

        Raises :class:`~sessiond_client.Timeout` when the deadline comes first.
        """
        waiting = self.link.writes_before(self.link.last_seq)
        if not waiting:
            return
        futures = [self.done(call) for call in waiting]
        _, late = await asyncio.wait(futures, timeout=max(0.0, deadline - clock()))
        if late:
            raise errors.Timeout("earlier writes were not answered in time")

    async def reach(self, deadline: float) -> None:
        """Return once the daemon has answered hello; raises why not."""
        if self.link.welcome is None:
            await self.call(Call(ServerPing(), deadline))

    # --- time ------------------------------------------------------------------------------

    def _plan_sweep(self, when: float) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._sweep_at = when
        self._sweeping = self.loop.call_later(max(0.0, when - clock()), self._sweep)

    def _sweep(self) -> None:
        """End the calls whose time is up."""
        self._sweeping, self._sweep_at = None, math.inf
        now = clock()
        for call in self.link.unfinished():
            if call.deadline <= now:
                self.link.give_up(call)
            else:
                self._sweep_at = min(self._sweep_at, call.deadline)
        if self._sweep_at < math.inf:
            self._plan_sweep(self._sweep_at)
        self._wake_finished()

    def _plan_resend(self) -> None:
        when = self.link.resend_at
        if when is not None and self._resending is None:
            self._resending = self.loop.call_later(max(0.0, when - clock()), self._resend)

    def _resend(self) -> None:
        self._resending = None
        when, now = self.link.resend_at, clock()
        if when is not None and when <= now and self._socket is not None:
            self.link.resend_refused(now)
            self._flush()
        self._plan_resend()

    # --- the connection --------------------------------------------------------------------

    def _connect_if_needed(self) -> None:
        if self._connecting is None and not self._closed and self.link.busy:
            self._connecting = self.loop.create_task(self._connect(), name="sessiond connect")

    async def _connect(self) -> None:
        """Connect within the time of the calls that wait for it."""
        try:
            while self._socket is None and not self._closed and self.link.busy:
                await self._connect_once()
        finally:
            self._connecting = None

    async def _connect_once(self) -> None:
        self._sweep()  # a machine that slept may have slept past deadlines: nothing is sent after
        until = min((call.deadline for call in self.link.unfinished()), default=0.0)
        if not until:
            return
        until = min(until, clock() + WATCH_SECONDS) if until == math.inf else until
        try:
            pause = self.link.pause_before_dialling
            if pause:
                await asyncio.sleep(min(pause, max(0.0, until - clock())))
            connected = await self._dial(until)
        except SessiondError as error:
            self.link.trouble = error
            # Not for want of time: trying again would not help.
            if not error.retryable or until - clock() > LONGEST_PAUSE:
                self.link.fail_all(error)
            self._sweep()
            await asyncio.sleep(FIRST_PAUSE)
            return
        connected.setblocking(False)
        self._socket = connected
        self.loop.add_reader(connected, self._receive)
        self.link.connected()
        self._flush()

    def _flush(self) -> None:
        """Send what the socket takes; the rest goes when it is writable again."""
        self._flush_planned = False
        connected, link = self._socket, self.link
        if connected is None or not link.out:
            return
        try:
            sent = connected.send(link.out)
            del link.out[:sent]
            if link.queued:
                link.refill(clock())
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._lose()
            return
        if bool(link.out) is not self._blocked:
            self._blocked = bool(link.out)
            if self._blocked:
                self.loop.add_writer(connected, self._flush)
            else:
                self.loop.remove_writer(connected)

    def _receive(self) -> None:
        connected, link = self._socket, self.link
        if connected is None:
            return
        try:
            data = connected.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        try:
            link.received(data, clock())
        except FrameError as error:
            link.trouble = errors.Unavailable(f"the daemon's answer is garbled: {error}")
            self._lose()
        except SessiondError as error:
            link.trouble = error
            if not error.retryable:
                link.fail_all(error)
            self._lose()
        else:
            self._plan_resend()
            if link.out and not self._blocked:
                self._flush()
        self._wake_finished()

    def _lose(self) -> None:
        """The connection is gone; a new one is made if anybody waits for something."""
        self._disconnect()
        self.link.lost()
        self._connect_if_needed()

    def _disconnect(self) -> None:
        connected, self._socket = self._socket, None
        if connected is None:
            return
        if not self.loop.is_closed():
            self.loop.remove_reader(connected)
            self.loop.remove_writer(connected)
        self._blocked = False
        connected.close()

    def _wake_finished(self) -> None:
        link = self.link
        while link.finished:
            finished, link.finished = link.finished, []
            for call in finished:
                call.wake()

    # --- the end ---------------------------------------------------------------------------

    async def close(self) -> None:
        """Disconnect. What is outstanding ends as unknown."""
        if self._closed:
            return
        self._closed = True
        self._stop_timers()
        try:
            if self._connecting is not None:
                self._connecting.cancel()
                await asyncio.wait([self._connecting])
        finally:
            self.link.fail_all(errors.Closed("the connection was closed"))
            self._disconnect()
            self._wake_finished()

    def _stop_timers(self) -> None:
        for timer in (self._sweeping, self._resending):
            if timer is not None:
                timer.cancel()
        self._sweeping = self._resending = None

    def abandon(self) -> None:
        """The loop is closed, or belongs to the parent of this process: let go of the socket."""
        self._closed = True
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()
