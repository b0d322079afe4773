"""What all asyncio objects for one database on one event loop share: a connection and readers."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sessiond_client import _errors as errors
from sessiond_client._call import Call
from sessiond_client._clock import clock
from sessiond_client._dial import Pause, Start, Try, dialling
from sessiond_client._direct import DirectReads, IndexDamaged, Way
from sessiond_client._link import Link
from sessiond_client._loop_pump import LoopPump
from sessiond_client._place import Key, Place
from sessiond_client._shared import note_settings
from sessiond_protocol.errors import SessiondError
from sessiond_protocol.requests import Kind, Request
from sessiond_protocol.requests.server import RequestStatus

T = TypeVar("T")

# Reads of the file that go on at once; more than a few threads only get in each other's way.
READ_THREADS: Final = 4

_lock = threading.Lock()
_open: dict[asyncio.AbstractEventLoop, dict[Key, "LoopShared"]] = {}


class LoopShared:
    """One database's connection and readers on one event loop."""

    def __init__(self, place: Place, loop: asyncio.AbstractEventLoop) -> None:
        self._place = place
        self.loop = loop
        self.users = 0
        self.pump = LoopPump(Link(place.database, place.program, place.advice), self._dial, loop)
        self._direct = DirectReads(place.database)
        self._threads: ThreadPoolExecutor | None = None
        self._reading: set[asyncio.Future[Any]] = set()

    async def ask(self, request: Request[Any], deadline: float, reads: str) -> Any:
        """The raw result of a request, from wherever it is answered."""
        if request.KIND is Kind.READ:
            way = self._direct.way(reads, request)
            if way is Way.UNSURE:
                # The file may not exist yet, or be about to be migrated or recovered.
                await self.pump.reach(deadline)
                await self._in_thread(lambda _: self._direct.look(request))
                way = self._direct.way(reads, request)
            if way is Way.FILE:
                await self.pump.settle(deadline)
                reader = self._direct.reader
                with contextlib.suppress(IndexDamaged):
                    return await self._in_thread(
                        lambda wanted: reader.read(request, deadline, wanted)
                    )
        if isinstance(request, RequestStatus):
            known = self.pump.link.outcomes.find(request.client_id, request.seq)
            if known is not None:
                return known
        return await self.pump.call(Call(request, deadline))

    async def _in_thread(self, function: Callable[[Callable[[], bool]], T]) -> T:
        """Run something that blocks; it is told when nobody waits for it any more."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="sessiond-read")
        wanted = True
        future = self.loop.run_in_executor(self._threads, function, lambda: wanted)
        self._reading.add(future)
        future.add_done_callback(self._reading.discard)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            wanted = False
            future.add_done_callback(_ignore)
            raise

    async def _dial(self, deadline: float) -> socket.socket:
        place = self._place
        steps = dialling(
            place.candidates,
            lambda: deadline - clock(),
            autostart=place.autostart,
            advice=place.advice,
        )
        connected: socket.socket | None = None
        started = False
        try:
            step = next(steps)
            while True:
                failure: str | None = None
                if isinstance(step, Try):
                    # Connecting to a Unix socket never waits: it succeeds or fails at once.
                    connected, failure = place.connect(step.path, max(0.1, deadline - clock()))
                elif isinstance(step, Start):
                    failure = await self._in_thread(
                        lambda _: place.start_daemon(deadline - clock())
                    )
                    started = failure is None
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                if connected is not None:
                    steps.close()
                    note_settings(place, started)
                    return connected
                step = steps.send(failure)
        except (OSError, ValueError) as error:
            if isinstance(error, SessiondError):
                raise
            raise errors.Unavailable(f"no daemon can be reached: {error}") from error

    async def close(self) -> None:
        """Disconnect, and end the threads."""
        await self.pump.close()
        if self._reading:
            await asyncio.wait(self._reading)
        if self._threads is not None:
            self._threads.shutdown()  # they are idle: no waiting
        self._direct.reader.close()

    def abandon(self) -> None:
        """The loop was closed before this: let go of what it held."""
        self.pump.abandon()
        if self._threads is not None:
            self._threads.shutdown()
        self._direct.reader.close()

    def leave_to_parent(self) -> None:
        """In a forked child: let go of what belongs to the parent. Its threads are not here."""
        self.pump.abandon()
        self._threads = None
        self._direct.reader.leave_to_parent()


def _ignore(future: "asyncio.Future[Any]") -> None:
    """Nobody waits for this; asking for its error keeps asyncio from reporting it."""
    if not future.cancelled():
        future.exception()


def take_part(place: Place) -> LoopShared:
    """The running loop's connection for a database; :func:`release` it when done."""
    loop = asyncio.get_running_loop()
    key = place.key
    with _lock:
        _forget_closed_loops()
        found = _open.setdefault(loop, {}).get(key)
        if found is None:
            found = _open[loop][key] = LoopShared(place, loop)
        found.users += 1
        return found


async def release(shared: LoopShared) -> None:
    """One user fewer; the last one closes the connection."""
    with _lock:
        shared.users -= 1
        if shared.users > 0:
            return
        _forget(shared)
    await shared.close()


def _forget(shared: LoopShared) -> None:
    of_loop = _open.get(shared.loop, {})
    for key, each in list(of_loop.items()):
        if each is shared:
            del of_loop[key]
    if not of_loop:
        _open.pop(shared.loop, None)


def _forget_closed_loops() -> None:
    for loop in [loop for loop in _open if loop.is_closed()]:
        for each in _open.pop(loop).values():
            each.abandon()


def _after_fork() -> None:
    """A child never uses its parent's loops or connections.

    The loop is not told: its selector is shared with the parent, and what were removed here
    would be removed there.
    """
    global _lock
    _lock = threading.Lock()
    for of_loop in _open.values():
        for each in of_loop.values():
            each.leave_to_parent()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
