"""Carrying out a plan: the daemon and the writers run, and are met by what was planned."""

import asyncio
import contextlib
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sessiond_client.torture.care import Caring
from sessiond_client.torture.client import Orders
from sessiond_client.torture.disk import Disk
from sessiond_client.torture.plan import Fault, Kind, Plan
from sessiond_client.torture.processes import SESSIOND, ClientProcess, DaemonProcess
from sessiond_client.torture.proxy import Proxy

READY_SECONDS: Final = 30.0
GRACE: Final = 10.0
# After the disk had no room the daemon may have left, or refused to start, for this long.
DISK_SHADOW: Final = 3.0
CUT_PATIENCE: Final = 1.0

_OF_DAEMON: Final = frozenset(
    {Kind.KILL_DAEMON, Kind.PAUSE_DAEMON, Kind.RESTART_DAEMON, Kind.FILL_DISK, Kind.HOLD_LOCK}
)
_OF_CARE: Final = frozenset({Kind.BACKUP, Kind.CHECK, Kind.REINDEX, Kind.VACUUM})
_OF_CLIENTS: Final = frozenset(Kind) - _OF_DAEMON - _OF_CARE


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a run takes place. ``folder`` takes sockets, logs and journals.

    ``command`` starts the program under torture, ``options`` are further ones of its ``serve``.
    ``timeout``: seconds that each call of a writer may take.
    """

    database: Path
    folder: Path
    disk: Disk
    command: Sequence[str] = SESSIOND
    options: Sequence[str] = ()
    timeout: float = 30.0


@dataclass(slots=True)
class Course:
    """What happened: faults by kind, exits of the daemon for want of room, and what is wrong.

    ``cared``: what of the care came to its end, and was as it should be.
    """

    faults: Counter[Kind] = field(default_factory=Counter)
    cared: Counter[Kind] = field(default_factory=Counter)
    starts: int = 0
    left_for_room: int = 0
    lives: list[int] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Run:
    """One run of a plan. ``told`` gets each fault as it is injected."""

    def __init__(self, plan: Plan, scene: Scene, told: Callable[[Fault], None]) -> None:
        self._plan = plan
        self._scene = scene
        self._told = told
        folder = scene.folder
        self._daemon = DaemonProcess(
            scene.command, scene.options, scene.database, folder / "daemon.sock",
            folder / "daemon.log",
        )  # fmt: skip
        # Every third client talks to the daemon itself, as programs do.
        self._proxies = {
            number: Proxy(folder / f"client-{number}.sock", self._daemon.socket)
            for number in range(plan.clients)
            if number % 3 != 2
        }
        self._clients = [self._client(number) for number in range(plan.clients)]
        self._caring = Caring(
            scene.database, self._daemon.socket, folder, plan.seed, scene.timeout, self._lives
        )
        self._course = Course(cared=self._caring.done)
        self._lifecycle = asyncio.Lock()  # who ends the daemon also starts it again
        self._room_back = float("-inf")
        self._began = 0.0

    def _client(self, number: int) -> ClientProcess:
        scene, proxy = self._scene, self._proxies.get(number)
        orders = Orders(
            database=str(scene.database),
            socket=str(proxy.path if proxy else self._daemon.socket),
            folder=str(scene.folder),
            client=number,
            life=0,
            seed=self._plan.seed,
            timeout=scene.timeout,
            reads="daemon" if number % 2 else "auto",
            kind="asyncio" if number % 4 in (1, 2) else "blocking",
        )
        return ClientProcess(orders, scene.folder / f"client-{number}.log")

    async def carry_out(self) -> Course:
        """Everything from the first start to the last client's end; the daemon still serves."""
        try:
            return await self._carry_out()
        except BaseException:  # interrupted, for one
            await asyncio.gather(self._daemon.kill(), *(each.kill() for each in self._clients))
            raise

    async def _carry_out(self) -> Course:
        await self._daemon.start()
        if not await self._daemon.ready(READY_SECONDS):
            self._wrong(f"the daemon did not start, see {self._daemon.log}")
            await self._daemon.kill()
            return self._course
        for proxy in self._proxies.values():
            await proxy.start()
        for client in self._clients:
            await client.start()
        self._began = time.monotonic()
        watch = asyncio.create_task(self._watch())
        faults = self._plan.faults
        care = asyncio.create_task(self._line([each for each in faults if each.kind in _OF_CARE]))
        await asyncio.gather(
            self._line([fault for fault in faults if fault.kind in _OF_DAEMON]),
            self._line([fault for fault in faults if fault.kind in _OF_CLIENTS]),
        )
        await self._sleep_until(self._plan.seconds)
        await self._finish(care)
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        return self._course

    async def _finish(self, care: asyncio.Task[None]) -> None:
        """Nothing disturbs any more: everybody must come to an end."""
        if not await self._daemon.ready(READY_SECONDS):
            self._wrong("the daemon does not serve although nothing disturbs it any more")
        patience = self._scene.timeout + GRACE
        ends = await asyncio.gather(*(client.finish(patience) for client in self._clients))
        for wrong in filter(None, ends):
            self._wrong(wrong)
        course = self._course
        course.lives = self._lives()
        course.faults[Kind.CUT] = sum(proxy.cuts for proxy in self._proxies.values())
        course.seconds = time.monotonic() - self._began
        await care
        for kind in (Kind.BACKUP, Kind.CHECK):
            course.violations += await self._caring.do(kind, calm=True)
        for proxy in self._proxies.values():
            await proxy.close()

    def _lives(self) -> list[int]:
        return [client.lives for client in self._clients]

    async def stop_daemon(self) -> None:
        """The daemon's last, orderly end."""
        await self._stop_daemon()
        self._course.starts = self._daemon.starts

    async def _stop_daemon(self) -> None:
        if self._daemon.status is not None:
            return  # it has left by itself: that is the watch's to judge
        wrong = await self._daemon.stop()
        if wrong is not None:
            self._wrong(wrong)

    def _wrong(self, what: str) -> None:
        self._course.violations.append(what)

    # --- faults ----------------------------------------------------------------------------

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, self._began + at - time.monotonic()))

    async def _line(self, faults: Sequence[Fault]) -> None:
        """One fault after the other, with the pauses of the plan between them.

        Where things take longer than planned, because the machine is slow, the rest moves back
        and what does not fit any more is left out: without the pauses nobody would be served.
        """
        planned = ended = 0.0
        for fault in faults:
            await self._sleep_until(ended + fault.at - planned)
            if time.monotonic() - self._began > self._plan.seconds:
                return
            self._told(fault)
            if fault.kind is not Kind.CUT:
                self._course.faults[fault.kind] += 1
            await self._inject(fault)
            planned = fault.at + fault.seconds
            ended = time.monotonic() - self._began

    async def _inject(self, fault: Fault) -> None:
        if fault.kind in (Kind.KILL_DAEMON, Kind.RESTART_DAEMON):
            async with self._lifecycle:
                if fault.kind is Kind.KILL_DAEMON:
                    await self._daemon.kill()
                else:
                    await self._stop_daemon()
                await self._start_again(fault.seconds)
        elif fault.kind is Kind.PAUSE_DAEMON:
            await self._pause(self._daemon, fault.seconds)
        elif fault.kind is Kind.FILL_DISK:
            await self._fill_disk(fault.seconds)
        elif fault.kind is Kind.HOLD_LOCK:
            await asyncio.to_thread(self._hold_lock, fault.seconds)
        elif fault.kind in _OF_CARE:
            self._course.violations += await self._caring.do(fault.kind, now=fault.answers)
        else:
            await self._meet_client(fault)

    async def _start_again(self, after: float) -> None:
        await asyncio.sleep(after)
        await self._daemon.start()
        await self._daemon.ready(READY_SECONDS)

    async def _pause(self, process: DaemonProcess | ClientProcess, seconds: float) -> None:
        process.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.signal(signal.SIGCONT)

    async def _fill_disk(self, seconds: float) -> None:
        starved = self._daemon.pid
        self._room_back = float("inf")
        self._scene.disk.starve(starved)
        await asyncio.sleep(seconds)
        self._scene.disk.relieve(starved)
        self._room_back = time.monotonic()

    def _hold_lock(self, seconds: float) -> None:
        """Be another program that takes its time inside a transaction."""
        other = sqlite3.connect(self._scene.database, timeout=5.0, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")
        except sqlite3.OperationalError:
            pass  # the daemon's own transactions kept it out, or it has just been replaced
        finally:
            other.close()

    async def _meet_client(self, fault: Fault) -> None:
        assert fault.client is not None
        client = self._clients[fault.client]
        if fault.kind is Kind.PAUSE_CLIENT:
            await self._pause(client, fault.seconds)
        elif fault.kind is Kind.KILL_CLIENT:
            if client.status is not None:
                self._wrong(f"client {fault.client} ended by itself with status {client.status}")
            await client.kill()
            await asyncio.sleep(fault.seconds)
            await client.start()
        else:
            proxy = self._proxies.get(fault.client) or self._proxies[0]
            done = proxy.cut(fault.share, fault.answers)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), CUT_PATIENCE)

    # --- what was not planned --------------------------------------------------------------

    async def _watch(self) -> None:
        """Start the daemon again when it left by itself; only want of room excuses it."""
        while True:
            await asyncio.sleep(0.02)
            async with self._lifecycle:
                status = self._daemon.status
                if status is None:
                    continue
                if time.monotonic() - self._room_back < DISK_SHADOW and status > 0:
                    self._course.left_for_room += 1
                else:
                    self._wrong(f"the daemon left by itself with status {status}")
                await self._start_again(0.05)
