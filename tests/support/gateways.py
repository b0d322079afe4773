"""Gateway stores for tests: one face for all of them, and gateways that are other processes."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, cast

import uvloop

from sessiond_client import AsyncSessionDB, SessionDB
from sessiond_client.gateway import (
    AsyncSessionStore,
    GatewayConfig,
    SessionEntry,
    SessionResetPolicy,
    SessionStore,
)
from tests.support.clients import OnLoop
from tests.support.daemon import Daemon

KINDS: Final = ("sync", "asyncio", "uvloop")
HOUR: Final = 3600.0
IDLE: Final = GatewayConfig(default_reset_policy=SessionResetPolicy("idle", idle_minutes=60))


@contextmanager
def store(
    kind: str,
    daemon: Daemon,
    folder: Path,
    clock: Callable[[], float],
    *,
    config: GatewayConfig = IDLE,
    has_active_processes_fn: Callable[[str], Any] | None = None,
    on_auto_reset: Callable[[SessionEntry], Any] | None = None,
    transcripts: Literal["both", "db"] = "both",
    timeout: float = 10.0,
) -> Iterator[SessionStore]:
    """A store of one of :data:`KINDS` with the blocking store's face, closed at the end."""
    arguments = {**daemon.arguments, "timeout": timeout}
    calls = (config, has_active_processes_fn, on_auto_reset)
    with ExitStack() as stack:
        if kind == "sync":
            db = stack.enter_context(SessionDB(**arguments))
            yield stack.enter_context(
                SessionStore(folder, *calls, db=db, transcripts=transcripts, clock=clock)
            )
            return
        factory = uvloop.new_event_loop if kind == "uvloop" else asyncio.new_event_loop
        runner = stack.enter_context(asyncio.Runner(loop_factory=factory))
        async_db = AsyncSessionDB(**arguments)
        stack.enter_context(OnLoop(runner, async_db))
        async_store = AsyncSessionStore(
            folder, *calls, db=async_db, transcripts=transcripts, clock=clock
        )
        on_loop = stack.enter_context(OnLoop(runner, cast(AsyncSessionDB, async_store)))
        yield cast(SessionStore, on_loop)


class Process:
    """A gateway in a process of its own; it does what it is told, line by line."""

    def __init__(self, kind: str, daemon: Daemon, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.gateway_process",
             kind, str(daemon.database), str(daemon.socket), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def tell(self, what: str, **arguments: Any) -> None:
        """Give an order; it is carried out while this goes on."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """The next line it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the gateway ended"
        return json.loads(line)

    def kill(self) -> None:
        """End it wherever it is."""
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """Let it close its store and leave."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(10) == 0
        self._end()

    def _end(self) -> None:
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def processes(*kinds: str, daemon: Daemon, folder: Path) -> Iterator[list[Process]]:
    """Gateways of these kinds on one daemon and one folder; killed at the end."""
    made = [Process(kind, daemon, folder) for kind in kinds]
    try:
        yield made
    finally:
        for each in made:
            each.kill()
