"""How the blocking client makes a call: everything of ``SessionDB`` that waits."""

import os
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from sessiond_client import _errors as errors
from sessiond_client._clock import clock
from sessiond_client._link import Call
from sessiond_client._place import Place, daemon_settings
from sessiond_client._requests import Plan
from sessiond_client._shared import Shared, shared
from sessiond_protocol.paths import resolve_database
from sessiond_protocol.requests import Kind, Request

T = TypeVar("T")
Reads = Literal["direct", "daemon", "auto"]


class BlockingStore:
    """Drives calls over the connection that this process shares; the base of ``SessionDB``."""

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        pool_size: int | None = None,
        batch_size: int | None = None,
        batch_wait_ms: float | None = None,
        enable_batching: bool = True,
        *,
        socket: str | os.PathLike[str] | None = None,
        reads: Reads = "auto",
        autostart: bool = True,
        timeout: float = 30.0,
    ) -> None:
        if reads not in ("direct", "daemon", "auto"):
            raise ValueError(f"reads must be 'direct', 'daemon' or 'auto', not {reads!r}")
        if not 0 < timeout <= 1800:
            raise ValueError(f"timeout must be over 0 and at most 1800 seconds, not {timeout!r}")
        self.db_path = Path(resolve_database(db_path, os.environ))
        self._reads = reads
        self._timeout = timeout
        self._closed = False
        self._place = Place(
            os.path.realpath(self.db_path),
            None if socket is None else os.fspath(socket),
            autostart,
            daemon_settings(pool_size, batch_size, batch_wait_ms, enable_batching),
        )
        self._begin()

    def _begin(self) -> None:
        """Take part in this process's connection; a forked child does so again."""
        self._pid = os.getpid()
        self._connection: Shared = shared(self._place)
        self._writes: set[Call] = set()
        self._writes_lock = threading.Lock()

    @property
    def _shared(self) -> Shared:
        if self._pid != os.getpid():
            self._begin()
        return self._connection

    def flush(self) -> None:
        """Return once everything this object sent before is durable.

        Raises the first error of a write that nobody waited for.
        """
        self._check_open()
        self._settle(clock() + self._timeout)

    def close(self) -> None:
        """Flush, then disconnect. A second call does nothing."""
        if self._closed:
            return
        try:
            self.flush()
        finally:
            self._closed = True
            self._shared.release()

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

    def _check_open(self) -> None:
        if self._closed:
            raise errors.Closed("this SessionDB is closed")

    def _run(self, plan: Plan[T]) -> T:
        """Drive a call: carry out each request it asks for, until it has its result."""
        self._check_open()
        deadline = clock() + self._timeout
        try:
            request = next(plan)
            while True:
                try:
                    result = self._ask(request, deadline)
                except BaseException as error:
                    request = plan.throw(error)
                else:
                    request = plan.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _ask(self, request: Request[Any], deadline: float) -> Any:
        if request.KIND is Kind.READ:
            self._settle(deadline)
            reader = self._shared.reader(self._reads, request, deadline)
            if reader is not None:
                return reader.read(request, deadline)
        return self._shared.pump.call(Call(request, deadline))

    def _settle(self, deadline: float) -> None:
        """Wait for this object's own writes, so that what follows sees them."""
        if not self._writes:
            return
        with self._writes_lock:
            waiting = list(self._writes)
        for call in waiting:
            self._shared.pump.wait(call)

    def _later(self, request: Request[T]) -> Future[T]:
        self._check_open()
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        call = Call(request, clock() + self._timeout)

        def finished(done: Call) -> None:
            with self._writes_lock:
                self._writes.discard(done)
            if done.error is not None:
                future.set_exception(done.error)
            else:
                future.set_result(done.result)

        call.wakers.append(finished)
        with self._writes_lock:
            self._writes.add(call)
        pump = self._shared.pump
        pump.run_in_background()
        pump.submit(call)
        return future
