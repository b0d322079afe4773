"""How the blocking store carries out plans."""

import threading
from collections.abc import Coroutine
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, TypeVar

from sessiond_client import SessionDB, _fork
from sessiond_client._clock import clock
from sessiond_client.gateway._base import GatewayStore, Patience, asked
from sessiond_client.gateway.steps import Callback, FileWork, Plan, Step
from sessiond_protocol.requests import Request

T = TypeVar("T")


class BlockingGateway(GatewayStore[SessionDB]):
    """The base of ``SessionStore``: everything of it that waits."""

    def _new_db(self) -> SessionDB:
        return SessionDB()

    def _start(self) -> None:
        self._era = _fork.era
        self._own_locks = _Locks()

    def close(self) -> None:
        """Send what waits for the database, write the mirror. A second call does nothing.

        Raises the error that keeps messages waiting; they are in their files.
        """
        if self._closed:
            return
        try:
            self._carry_out(self._transcripts.send_all_waiting())
        finally:
            self._stop_mirroring()
            try:
                if self._pace.is_owed:
                    self._carry_out(self._mirroring())
            finally:
                self._closed = True
                if self._owns_db:
                    self._db.close()

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

    # --- how a plan is carried out ---------------------------------------------------------

    def _run(self, plan: Plan[T]) -> T:
        self._check_open()
        if not self._has_begun:
            with self._locks().beginning:
                if not self._has_begun:
                    self._carry_out(self._beginning())
        return self._carry_out(plan)

    def _carry_out(self, plan: Plan[T]) -> T:
        patience = Patience(self._db._timeout)
        try:
            step = next(plan)
            while True:
                try:
                    result = self._perform(step, patience)
                except BaseException as error:  # noqa: BLE001 (the plan raises it again)
                    step = plan.throw(error)
                else:
                    step = plan.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _perform(self, step: Step, patience: Patience) -> Any:
        if isinstance(step, Request):
            return self._db._run(asked(step))
        if isinstance(step, FileWork):
            return step.function()
        if isinstance(step, Callback):
            return _called(step, patience)
        return patience.check(step)

    # --- the mirror ------------------------------------------------------------------------

    def _locks(self) -> "_Locks":
        """A forked child has none of its parent's threads, and locks that nobody may hold."""
        if self._era != _fork.era:
            self._start()
        return self._own_locks

    def _changed(self) -> None:
        locks = self._locks()
        with locks.mirror:
            self._pace.changed()
            is_running = locks.thread is not None and locks.thread.is_alive()
            if not is_running and not locks.closing.is_set():
                locks.thread = threading.Thread(
                    target=self._mirror, args=(locks,), name="sessions.json", daemon=True
                )
                locks.thread.start()

    def _mirror(self, locks: "_Locks") -> None:
        """A thread that lives while there is something to write."""
        while True:
            with locks.mirror:
                if not self._pace.is_due or locks.closing.is_set():
                    locks.thread = None
                    return
                delay = self._pace.delay(clock())
            if not locks.closing.wait(delay):
                self._carry_out(self._mirroring())

    def _stop_mirroring(self) -> None:
        locks = self._locks()
        locks.closing.set()
        with locks.mirror:
            thread = locks.thread
        if thread is not None:
            thread.join()


class _Locks:
    """What threads of one process share."""

    def __init__(self) -> None:
        self.beginning = threading.Lock()
        self.mirror = threading.Lock()
        self.closing = threading.Event()
        self.thread: threading.Thread | None = None


def _called(step: Callback, patience: Patience) -> Any:
    go_on = patience.pause()
    try:
        result = step.function(*step.arguments)
    finally:
        go_on()
    if isawaitable(result):
        if isinstance(result, Coroutine):
            result.close()
        raise TypeError(f"{step.function!r} is asynchronous: use AsyncSessionStore")
    return result
