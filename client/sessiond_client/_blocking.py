"""How the blocking client makes a call: everything of ``SessionDB`` that waits."""

import atexit
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sessiond_client import _errors as errors
from sessiond_client import _fork
from sessiond_client import _shared as sharing
from sessiond_client._call import Call
from sessiond_client._clock import clock
from sessiond_client._requests import Plan
from sessiond_client._shared import Shared
from sessiond_client._store import EXIT_SECONDS, MERGE_SECONDS, Store
from sessiond_client._watching import Watching
from sessiond_protocol.requests import Kind, Request
from sessiond_protocol.requests.session import SessionUpdateTokens

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sessiond_client._write_future import WriteFuture

T = TypeVar("T")

# Objects that may have increments waiting: the end of the program sends them.
_merging: "weakref.WeakSet[BlockingStore]" = weakref.WeakSet()


class BlockingStore(Store):
    """Drives calls over the connection that this process shares; the base of ``SessionDB``."""

    def _begin(self) -> None:
        super()._begin()
        self._lock = threading.Lock()  # what is merged, and its order among this object's writes
        self._merging = False  # whether anything was ever handed over to be merged
        self._timer_runs = False
        self._connection: Shared = sharing.take_part(self._place)

    def _shared(self) -> Shared:
        """The connection of this process; after a fork a new one."""
        if self._era != _fork.era:
            with _after_fork:
                if self._era != _fork.era:
                    self._begin()
        return self._connection

    def flush(self) -> None:
        """Return once everything this object sent before is durable.

        Raises the first error of a token count that nobody waited for.
        """
        self._check_open()
        self._settle()

    def _settle(self) -> None:
        shared = self._shared()
        self._send_merges()
        shared.pump.settle(clock() + self._timeout)
        self._raise_failure("every other write that was sent before is answered")

    def close(self) -> None:
        """Flush, then disconnect. A second call does nothing."""
        if self._closed:
            return
        try:
            self._settle()
        finally:
            self._leave()

    def _leave(self) -> None:
        shared = self._shared()
        with self._lock:
            closed, self._closed = self._closed, True
        _merging.discard(self)
        if not closed:
            sharing.release(shared)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- how a call is made ----------------------------------------------------------------

    def _run(self, plan: Plan[T]) -> T:
        """Drive a call: carry out each request it asks for, until it has its result."""
        if self._closed:
            self._check_open()
        if self._failure is not None:
            self._raise_failure()
        shared = self._shared()
        try:
            request = next(plan)
            while True:
                if self._merging:
                    self._make_way(request)
                try:
                    result = shared.ask(request, clock() + self._timeout, self._reads)
                except BaseException as error:  # noqa: BLE001 (the plan raises it again)
                    request = plan.throw(error)
                else:
                    request = plan.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _later(self, request: Request[T]) -> "Future[T]":
        """Hand a write over; the future of its result."""
        self._check_open()
        self._raise_failure()
        pump = self._shared().pump
        deadline = clock() + self._timeout
        pump.make_room(deadline)
        call = Call(request, deadline)
        future: WriteFuture[T] = _future_class()(pump, call)
        with self._lock:
            pump.hand_over([*map(self._merge_call, self._merges.before(request)), call])
        return future

    def _watch(self, session_id: str | None, after: int | None) -> Watching:
        self._check_open()
        return Watching(self._shared().pump, session_id, after)

    # --- token counts that nobody waits for --------------------------------------------------

    def _count(self, request: SessionUpdateTokens) -> None:
        """Keep an increment for a moment, so that others can join it."""
        self._check_open()
        self._raise_failure()
        pump = self._shared().pump
        pump.make_room(clock() + self._timeout)
        with self._lock:
            if not self._merging:
                self._merging = True
                _merging.add(self)
            if request.absolute:
                due = [*self._merges.before(request), request]
            else:
                due = self._merges.add(request)
            if due:
                pump.hand_over([self._merge_call(each) for each in due])
            start = bool(self._merges) and not self._timer_runs
            self._timer_runs = self._timer_runs or start
        if start:
            pump.later(MERGE_SECONDS, self._timer_ended)

    def _timer_ended(self) -> None:
        self._timer_runs = False
        with contextlib.suppress(errors.Closed):
            self._send_merges()

    def _make_way(self, request: Request[Any]) -> None:
        """Send what has to be answered, or numbered, before this request."""
        if request.KIND is Kind.WRITE:
            with self._lock:
                self._hand_over(self._merges.before(request))
        else:
            self._send_merges()

    def _send_merges(self) -> None:
        with self._lock:
            self._hand_over(self._merges.take())

    def _hand_over(self, increments: Sequence[SessionUpdateTokens]) -> None:
        if increments:
            self._connection.pump.hand_over([self._merge_call(each) for each in increments])

    def _merge_call(self, increment: SessionUpdateTokens) -> Call:
        call = Call(increment, clock() + self._timeout)
        what = f"update_token_counts of session {increment.session_id!r}"
        call.wakers += (lambda done: self._failed(what, done.error),)
        return call

    def _at_exit(self) -> None:
        if not self._closed and self._era == _fork.era:
            self._send_merges()


@functools.cache
def _future_class() -> "type[WriteFuture[Any]]":
    """Loaded when it is first needed: Python's futures bring its logging along."""
    from sessiond_client._write_future import WriteFuture

    return WriteFuture


_after_fork = threading.Lock()


def _new_lock() -> None:
    global _after_fork
    _after_fork = threading.Lock()


os.register_at_fork(after_in_child=_new_lock)


@atexit.register
def _send_what_waits() -> None:
    """What was handed over is sent and answered before the program ends, or its error shown."""
    stores = list(_merging)
    for each in stores:
        each._at_exit()
    sharing.settle_all(clock() + EXIT_SECONDS)
    for each in stores:
        each._raise_failure("the program has ended")
