"""Where is measured: a scratch folder, the text, the time, and daemons with something stored."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sessiond_client import SessionDB
from sessiond_client.bench.daemon import scratch_daemon
from sessiond_client.bench.latency import latency_ms
from sessiond_client.bench.run import Settings, fill
from sessiond_client.bench.store import Target


@dataclass(frozen=True, slots=True)
class Site:
    """What all measures have in common. ``seconds``: how long one thing is measured at a time.

    ``quick``: smaller databases, for a first look. ``say`` tells people what goes on.
    """

    folder: Path
    text: Sequence[str]
    seconds: float
    quick: bool
    say: Callable[[str], None]

    @contextlib.contextmanager
    def serving(self, name: str, *options: str) -> Iterator[Target]:
        """A daemon on the database of that name, which is made if it is not there."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        with scratch_daemon(folder, options) as target:
            yield target

    def store(self, target: Target, messages: int, session_length: int, joined: int = 1) -> None:
        """Store so many messages, each of so many paragraphs, through the daemon."""
        text = list(self.text)
        if joined > 1:
            text = ["\n\n".join([*text[at:], *text][:joined]) for at in range(len(text))]
        self.say(f"storing {messages:,} messages")
        with SessionDB(**target.arguments) as db:
            fill(db, Settings(stored=messages, session_length=session_length), text)


def timed(call: Callable[[int], object], seconds: float, pause: float = 0.0) -> list[float]:
    """Seconds that each of as many calls takes as fit into the time; at least one."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        call(len(taken))
        now = time.perf_counter()
        taken.append(now - started)
        if now > end:
            return taken
        if pause:
            time.sleep(pause)


def percentile(taken: Sequence[float], name: str) -> float:
    """``p50``, ``p99``, ``max`` ... of seconds, in seconds."""
    return latency_ms(taken)[name] / 1000
