"""SIGTERM ends a command as Ctrl-C does: nothing it started stays behind, the terminal is put back.

A second one ends it at once.
"""

import signal
from types import FrameType

_came = False


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def heed() -> None:
    """Raise :class:`Terminated` in the main thread when SIGTERM comes, unless it is ignored."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def came() -> bool:
    """Whether it has come."""
    return _came


def _end(_number: int, _frame: FrameType | None) -> None:
    global _came
    _came = True
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated
