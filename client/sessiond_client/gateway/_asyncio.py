"""How the asyncio store carries out plans."""

import asyncio
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, TypeVar

from sessiond_client._async import AsyncSessionDB
from sessiond_client._clock import clock
from sessiond_client.gateway._base import GatewayStore, Patience, asked
from sessiond_client.gateway.steps import Callback, FileWork, Plan, Step
from sessiond_protocol.requests import Request

T = TypeVar("T")


class AsyncGateway(GatewayStore[AsyncSessionDB]):
    """The base of ``AsyncSessionStore``: everything of it that awaits."""

    def _new_db(self) -> AsyncSessionDB:
        return AsyncSessionDB()

    def _start(self) -> None:
        self._beginning_lock = asyncio.Lock()
        self._closing = asyncio.Event()
        self._mirror_task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Send what waits for the database, write the mirror. A second call does nothing.

        Raises the error that keeps messages waiting; they are in their files.
        """
        if self._closed:
            return
        try:
            await self._carry_out(self._transcripts.send_all_waiting())
        finally:
            self._closing.set()
            try:
                if self._mirror_task is not None:
                    await asyncio.wait([self._mirror_task])
                if self._pace.is_owed:
                    await self._carry_out(self._mirroring())
            finally:
                self._closed = True
                if self._owns_db:
                    await self._db.close()

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

    # --- how a plan is carried out ---------------------------------------------------------

    async def _run(self, plan: Plan[T]) -> T:
        self._check_open()
        if not self._has_begun:
            async with self._beginning_lock:
                if not self._has_begun:
                    await self._carry_out(self._beginning())
        return await self._carry_out(plan)

    async def _carry_out(self, plan: Plan[T]) -> T:
        patience = Patience(self._db._timeout)
        try:
            step = next(plan)
            while True:
                try:
                    result = await self._perform(step, patience)
                except BaseException as error:  # noqa: BLE001 (the plan raises it again)
                    step = plan.throw(error)
                else:
                    step = plan.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _perform(self, step: Step, patience: Patience) -> Any:
        if isinstance(step, Request):
            return await self._db._run(asked(step))
        if isinstance(step, FileWork):
            return await _to_its_end(step)
        if isinstance(step, Callback):
            return await _called(step, patience)
        return patience.check(step)

    # --- the mirror ------------------------------------------------------------------------

    def _changed(self) -> None:
        self._pace.changed()
        if (self._mirror_task is None or self._mirror_task.done()) and not self._closing.is_set():
            self._mirror_task = asyncio.create_task(self._mirror(), name="sessions.json")

    async def _mirror(self) -> None:
        """A task that lives while there is something to write."""
        while self._pace.is_due and not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.delay(clock())):
                    await self._closing.wait()
            if not self._closing.is_set():
                await self._carry_out(self._mirroring())


async def _to_its_end(step: FileWork) -> Any:
    """File work in a thread. A cancelled caller learns of it once the work is done.

    Otherwise it would go on behind the back of whoever comes next to the same file.
    """
    working = asyncio.get_running_loop().run_in_executor(None, step.function)
    cancelled: asyncio.CancelledError | None = None
    while not working.done():
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return working.result()
    if working.exception() is None and step.undo is not None:
        step.undo(working.result())
    raise cancelled


async def _called(step: Callback, patience: Patience) -> Any:
    go_on = patience.pause()
    try:
        result = step.function(*step.arguments)
        return await result if isawaitable(result) else result
    finally:
        go_on()
