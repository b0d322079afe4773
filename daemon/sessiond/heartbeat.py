"""The heartbeat: proof that the writer gets on, and what the service manager is told of it.

A beat is made by whoever does the writer's work: the writer when it comes by its inbox or has
committed a batch, whoever waits for a lock, each step of a migration. Only the event loop tells
the manager, and only when something has beaten since it told last. So a hung writer is seen,
and a hung event loop as well; a single sync that takes for ever is no progress.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from sessiond.notify import Notifier

# What one message asks for, and how often there is one: a few may be late.
EXTENSION_SECONDS: Final = 30.0
MOST_SECONDS: Final = 5.0


class Phase(Enum):
    """What the manager waits for: to hear that the daemon is ready, that it lives, its end."""

    STARTING = auto()
    SERVING = auto()
    STOPPING = auto()


class Heartbeat:
    """Passes through the writer's inbox and back to the event loop.

    ``interval`` is how often the manager wants to hear of it, in seconds, None if there is no
    watchdog. ``put_errand`` has the writer run something between two batches.
    """

    def __init__(
        self,
        notifier: Notifier,
        interval: float | None,
        put_errand: Callable[[Callable[[], None]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._watched = interval is not None
        self._put_errand = put_errand
        self._clock = clock
        self._underway = False
        self._told = self._beats = 0
        self._last = clock()
        self._status = ""
        self.phase = Phase.STARTING
        # Twice as often as is wanted: a beat that comes just after a look waits for the next.
        self.interval = MOST_SECONDS if interval is None else min(MOST_SECONDS, interval / 2)

    def beat(self) -> None:
        """There was progress. From any thread that does the writer's work."""
        self._beats += 1
        self._last = self._clock()

    @property
    def silence(self) -> float:
        """Seconds since the last beat."""
        return self._clock() - self._last

    def look(self) -> None:
        """Tell the manager of what has beaten since the last look, and send the next one.

        On the event loop, every ``interval`` seconds.
        """
        beats = self._beats
        if beats != self._told:
            self._told = beats
            self._tell()
        if self.phase is Phase.SERVING and not self._underway:
            self._underway = True
            self._put_errand(self._pass)

    def _pass(self) -> None:
        """The writer has come by."""
        self._underway = False
        self.beat()

    def _tell(self) -> None:
        if self.phase is not Phase.SERVING:
            self._notifier.send(extend_timeout_usec=int(EXTENSION_SECONDS * 1_000_000))
        elif self._watched:
            self._notifier.send(watchdog=1)

    async def run(self, left: Callable[[], int], status: Callable[[], str]) -> None:
        """Look regularly, until cancelled, and say how things are.

        ``left`` is how many requests are not answered yet: while the daemon stops, each that
        is answered is progress.
        """
        before = 0
        while True:
            await asyncio.sleep(self.interval)
            now_left = left()
            if self.phase is Phase.STOPPING and now_left != before:
                self.beat()
            before = now_left
            self.look()
            self.say(status())

    # --- what people read ------------------------------------------------------------------

    def ready(self, status: str) -> None:
        """Clients are served from now on."""
        self.phase = Phase.SERVING
        self._status = status
        self._notifier.send(ready=1, status=status)

    def stopping(self, status: str) -> None:
        """The daemon leaves."""
        self.phase = Phase.STOPPING
        self._status = status
        self._notifier.send(stopping=1, status=status)

    def reloading(self) -> None:
        """Settings are read again; :meth:`ready` ends it."""
        self._notifier.send(reloading=1, monotonic_usec=time.monotonic_ns() // 1000)

    def say(self, status: str) -> None:
        """What ``systemctl status`` shows; nothing is sent while it stays the same."""
        if status != self._status:
            self._status = status
            self._notifier.send(status=status)
