"""Single keys from a terminal, while something else is drawn on it."""

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Final

_QUIT: Final = frozenset(b"qQ")


@contextlib.contextmanager
def single_keys() -> Iterator[None]:
    """Keys arrive without Enter and are not shown; nothing changes where no terminal is read."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSADRAIN)  # what was typed before is not lost
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def quit_within(seconds: float) -> bool:
    """Wait; True, early, when q is pressed."""
    until = time.monotonic() + seconds
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return False
    descriptor = sys.stdin.fileno()
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([descriptor], [], [], left)
        if ready and _QUIT & frozenset(os.read(descriptor, 64)):
            return True
    return False
