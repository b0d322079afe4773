"""Which other processes have a file open for writing, as /proc tells it."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Final

_PROC: Final = "/proc"


def writers(path: str) -> list[int]:
    """The pids of other processes that have the file at a path open for writing.

    Those of other users are seen by root only. Nothing is opened: the path is only looked at.
    """
    try:
        wanted = os.stat(path)
    except OSError:
        return []
    identity = wanted.st_dev, wanted.st_ino
    own = os.getpid()
    return [pid for pid in _pids() if pid != own and any(_writing(pid, identity))]


def _pids() -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from map(int, filter(str.isdigit, os.listdir(_PROC)))


def _writing(pid: int, identity: tuple[int, int]) -> Iterator[bool]:
    """For each descriptor of a process that leads to the file, whether it may be written."""
    folder = f"{_PROC}/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):  # closed, or the process ended
                found = os.stat(f"{folder}/{name}")
                if (found.st_dev, found.st_ino) == identity:
                    yield _may_write(f"{_PROC}/{pid}/fdinfo/{name}")


def _may_write(info: str) -> bool:
    with open(info, encoding="ascii") as file:
        flags = re.search(r"(?m)^flags:\s*([0-7]+)", file.read())
    return flags is not None and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY
