"""From nothing to a connected socket: where to look, how long to wait, when to start a daemon.

The steps are a generator, so that the blocking and the asyncio client do the same thing.
"""

from collections.abc import Callable, Generator, Sequence

import msgspec

from sessiond_client import _errors as errors
from sessiond_client._clock import jittered

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.5


class Try(msgspec.Struct, frozen=True):
    """Connect to this path; the answer is None, or why it failed."""

    path: str


class Pause(msgspec.Struct, frozen=True):
    """Wait this many seconds."""

    seconds: float


class Start(msgspec.Struct, frozen=True):
    """Start a daemon; the answer is None, or why it cannot be started."""


Step = Try | Pause | Start
Dialling = Generator[Step, str | None, None]


def dialling(
    candidates: Callable[[], Sequence[str]],
    remaining: Callable[[], float],
    *,
    autostart: bool,
    advice: Callable[[], str],
) -> Dialling:
    """Yield steps until a :class:`Try` succeeds; then the driver stops asking.

    ``candidates`` gives the paths to try, best first, anew each time: a daemon may just have
    written where it listens. Raises :class:`Unavailable` when ``remaining`` seconds are up,
    with ``advice`` on what to do.
    """
    pause = FIRST_PAUSE
    started = False
    failures: dict[str, str] = {}
    while True:
        failures.clear()
        for path in candidates():
            failure = yield Try(path)
            if failure is None:
                return
            failures[path] = failure
        if autostart and not started:
            failure = yield Start()
            if failure is not None:
                raise errors.Unavailable(f"no daemon answers and none could be started: {failure}")
            started = True
            continue  # it may have taken all the time there was: look before giving up
        if remaining() <= pause:
            tried = "; ".join(f"{path}: {why}" for path, why in failures.items())
            raise errors.Unavailable(f"no daemon answers ({tried}); {advice()}")
        yield Pause(jittered(pause))
        pause = min(pause * 2, LONGEST_PAUSE)
