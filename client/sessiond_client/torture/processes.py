"""The processes of a run: the daemon, started again whenever it is gone, and the writers."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from sessiond_client.torture.client import Orders
from sessiond_client.torture.journal import journal_path
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State

SESSIOND: Final = (sys.executable, "-m", "sessiond")

_LOOK: Final = 0.005
_STOPPING: Final = 40.0


@dataclass
class DaemonProcess:
    """The daemon under torture.

    ``command`` starts the program; ``serve`` and its options are added. ``strange`` collects
    exits that nobody caused.
    """

    command: Sequence[str]
    options: Sequence[str]
    database: Path
    socket: Path
    log: Path
    starts: int = 0

    def __post_init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; clients may try at once."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command, "serve",
                "--database", str(self.database), "--socket", str(self.socket), *self.options,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C is for the run, which ends it
            )  # fmt: skip
        self.starts += 1

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status (a signal's number below zero), None while it lives."""
        assert self._process is not None
        return self._process.returncode

    async def ready(self, patience: float) -> bool:
        """Wait until it serves; False if it ended or took too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.status is None:
                    said = state_file.read(paths.state_file(str(self.database)))
                    if said and (said.pid, said.state) == (self.pid, State.SERVING):
                        return True
                    await asyncio.sleep(_LOOK)
        return False

    def signal(self, number: int) -> None:
        """Send a signal, if it still lives."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def gone(self) -> int:
        """Wait for its end; its exit status."""
        assert self._process is not None
        return await self._process.wait()

    async def kill(self) -> None:
        """End it at once, if it was started."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self.gone()

    async def stop(self) -> str | None:
        """Ask it to stop; what was wrong with how it did, if anything."""
        self.signal(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(self.gone(), _STOPPING)
        except TimeoutError:
            await self.kill()
            return f"the daemon did not stop within {_STOPPING:g} s of SIGTERM"
        return None if status == 0 else f"the daemon left with status {status} after SIGTERM"


@dataclass
class ClientProcess:
    """One client, over any number of lives."""

    orders: Orders
    errors: Path
    lives: int = 0

    def __post_init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Begin its next life."""
        orders = msgspec.structs.replace(self.orders, life=self.lives)
        with self.errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sessiond_client.torture.client",
                msgspec.json.encode(orders).decode(),
                stdin=asyncio.subprocess.DEVNULL, stdout=errors, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        self.lives += 1

    def signal(self, number: int) -> None:
        """Send a signal, if it still lives."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    @property
    def status(self) -> int | None:
        """Its exit status, None while it lives."""
        return None if self._process is None else self._process.returncode

    async def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    @property
    def _has_begun(self) -> bool:
        """Whether its present life has come as far as to listen to signals."""
        orders = self.orders
        return journal_path(Path(orders.folder), orders.client, self.lives - 1).exists()

    async def finish(self, patience: float) -> str | None:
        """Let it finish what it has begun; what was wrong with how it did, if anything."""
        assert self._process is not None
        number = self.orders.client
        self.signal(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(self._process.wait(), patience)
        except TimeoutError:
            await self.kill()
            return f"client {number} still waited for an answer {patience:g} s after the end"
        if status == 0 or (status == -signal.SIGTERM and not self._has_begun):
            return None
        said = self.errors.read_text("utf-8", "replace").strip().splitlines()[-1:]
        return f"client {number} ended with status {status}: {' '.join(said)}"


def free_of_daemons(database: Path) -> bool:
    """Whether no daemon claims to serve a database."""
    said = state_file.read(paths.state_file(str(database)))
    if said is None or said.state in (State.STOPPED, State.FAILED):
        return True
    try:
        os.kill(said.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
