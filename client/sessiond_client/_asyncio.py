"""How the asyncio client makes a call: everything of ``AsyncSessionDB`` that awaits."""

import asyncio
import atexit
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from sessiond_client import _fork
from sessiond_client import _loop_shared as sharing
from sessiond_client import _shared as blocking
from sessiond_client._call import Call
from sessiond_client._clock import clock
from sessiond_client._loop_pump import LoopPump
from sessiond_client._loop_shared import LoopShared
from sessiond_client._loop_watching import AsyncWatching
from sessiond_client._requests import Plan
from sessiond_client._store import EXIT_SECONDS, MERGE_SECONDS, Store
from sessiond_protocol.requests import Kind, Request
from sessiond_protocol.requests.session import SessionUpdateTokens

T = TypeVar("T")

# Objects that may have increments waiting: the end of the program sends them.
_merging: "weakref.WeakSet[AsyncStore]" = weakref.WeakSet()


class WriteFuture(asyncio.Future[T]):
    """The result of a write that was handed over.

    Cancelling it before its bytes are in the send buffer keeps it from ever being sent. After
    that it may still be applied: ``data`` then has the arguments of ``request_status``.
    """

    __slots__ = ("_call", "_pump", "data")

    _pump: LoopPump
    _call: Call
    data: dict[str, Any] | None

    @classmethod
    def of(cls, call: Call, pump: LoopPump) -> Self:
        """That of a call. An ``__init__`` of its own would make a future cost twice as much."""
        future = cls(loop=pump.loop)
        future._pump, future._call, future.data = pump, call, None
        call.wakers += (future._resolve,)
        return future

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future and, if it was not sent yet, the write."""
        if not self.done():
            self.data = self._pump.cancel(self._call)
        return super().cancel(msg)

    def _resolve(self, call: Call) -> None:
        if self.done():
            return
        if call.error is not None:
            self.set_exception(call.error)
        else:
            self.set_result(call.result)


class AsyncStore(Store):
    """Drives calls over the connection that a loop shares; the base of ``AsyncSessionDB``.

    An object belongs to the event loop that first uses it; when that loop is closed, to the next
    one. Any number of tasks may use one object.
    """

    def _begin(self) -> None:
        super()._begin()
        self._merging = False
        self._timer: asyncio.TimerHandle | None = None
        self._connection: LoopShared | None = None

    def _shared(self) -> LoopShared:
        """The connection of the running loop."""
        found = self._connection
        if found is None or found.loop is not asyncio.get_running_loop() or self._era != _fork.era:
            found = self._bind(found)
        return found

    def _bind(self, older: LoopShared | None) -> LoopShared:
        if self._era != _fork.era:
            self._begin()
        elif older is not None and not older.loop.is_closed():
            raise RuntimeError(
                f"this {type(self).__name__} is in use on another event loop: make one per loop"
            )
        self._timer = None
        self._connection = found = sharing.take_part(self._place)
        if self._merges:
            self._start_timer(found)
        return found

    async def flush(self) -> None:
        """Return once everything this object sent before is durable.

        Raises the first error of a token count that nobody waited for.
        """
        self._check_open()
        shared = self._shared()
        self._send_merges()
        await shared.pump.settle(clock() + self._timeout)
        self._raise_failure("every other write that was sent before is answered")

    async def close(self) -> None:
        """Flush, then disconnect. A second call does nothing."""
        if self._closed:
            return
        if self._connection is None:
            self._closed = True
            return
        shared = self._shared()
        try:
            await self.flush()
        finally:
            closed, self._closed = self._closed, True
            _merging.discard(self)
            if self._timer is not None:
                self._timer.cancel()
            if not closed:
                await sharing.release(shared)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --- how a call is made ----------------------------------------------------------------

    async def _run(self, plan: Plan[T]) -> T:
        """Drive a call: carry out each request it asks for, until it has its result."""
        if self._closed:
            self._check_open()
        if self._failure is not None:
            self._raise_failure()
        shared = self._shared()
        try:
            request = next(plan)
            while True:
                if self._merges:
                    self._make_way(request)
                try:
                    deadline = clock() + self._timeout
                    result = await shared.ask(request, deadline, self._reads)
                except BaseException as error:  # noqa: BLE001 (the plan raises it again)
                    request = plan.throw(error)
                else:
                    request = plan.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _later(self, request: Request[T]) -> "WriteFuture[T]":
        """Hand a write over; the future of its result."""
        if self._closed:
            self._check_open()
        if self._failure is not None:
            self._raise_failure()
        shared = self._shared()
        call = Call(request, clock() + self._timeout)
        future: WriteFuture[T] = WriteFuture.of(call, shared.pump)
        if self._merges:
            self._make_way(request)
        shared.pump.submit(call)
        return future

    def _watch(self, session_id: str | None, after: int | None) -> AsyncWatching:
        self._check_open()
        return AsyncWatching(self._shared().pump, session_id, after)

    # --- token counts that nobody waits for --------------------------------------------------

    async def _count(self, request: SessionUpdateTokens) -> None:
        """Keep an increment for a moment, so that others can join it."""
        self._check_open()
        self._raise_failure()
        shared = self._shared()
        if not self._merging:
            self._merging = True
            _merging.add(self)
        if request.absolute:
            self._hand_over([*self._merges.before(request), request])
        else:
            self._hand_over(self._merges.add(request))
        if self._merges and self._timer is None:
            self._start_timer(shared)

    def _start_timer(self, shared: LoopShared) -> None:
        self._timer = shared.loop.call_later(MERGE_SECONDS, self._timer_ended)

    def _timer_ended(self) -> None:
        self._timer = None
        if not self._closed:
            self._send_merges()

    def _make_way(self, request: Request[Any]) -> None:
        """Send what has to be answered, or numbered, before this request."""
        if request.KIND is Kind.WRITE:
            self._hand_over(self._merges.before(request))
        else:
            self._send_merges()

    def _send_merges(self) -> None:
        self._hand_over(self._merges.take())

    def _hand_over(self, increments: Sequence[SessionUpdateTokens]) -> None:
        for each in increments:
            self._shared().pump.submit(self._merge_call(each))

    def _merge_call(self, increment: SessionUpdateTokens) -> Call:
        call = Call(increment, clock() + self._timeout)
        what = f"update_token_counts of session {increment.session_id!r}"
        call.wakers += (lambda done: self._failed(what, done.error),)
        return call

    def _at_exit(self, deadline: float) -> None:
        """No loop runs any more: send over a connection of the blocking kind."""
        increments = self._merges.take()
        if not increments or self._closed or self._era != _fork.era:
            return
        shared = blocking.take_part(self._place)
        try:
            for each in increments:
                shared.ask(each, deadline, "daemon")
        finally:
            blocking.release(shared)


@atexit.register
def _send_what_waits() -> None:
    """Increments whose loop ended before they were sent are sent before the program ends."""
    deadline = clock() + EXIT_SECONDS
    for each in list(_merging):
        each._at_exit(deadline)
