"""What lies at a path: which file, how long, without asking for its times.

Since Linux 6.13 a file whose times were read gets exact ones at its next write, and then a sync
of its data takes a third longer: 125 us became 170 for a log that was looked at with ``stat``
between two commits. ``statx`` can leave the times out; Python has it from 3.15 on.
"""

import ctypes
import os
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, Self


class FileState(NamedTuple):
    """A file by device and inode, its number of names, its size in bytes."""

    device: int
    inode: int
    links: int
    size: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """What ``stat`` found."""
        return cls(found.st_dev, found.st_ino, found.st_nlink, found.st_size)


# From linux/stat.h and linux/fcntl.h: type, links, inode, size; the structure of 256 bytes.
_MASK: Final = 0x001 | 0x004 | 0x100 | 0x200
_FROM_HERE: Final = -100
_SIZE: Final = 256
_fields: Final = struct.Struct("=16xI12xQQ88xII").unpack_from


class Look:
    """What lies at a path, links followed, each time it is called; opens nothing.

    For one thread at a time. Raises ``OSError``.
    """

    __slots__ = ("_ask", "_found", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._found = ctypes.create_string_buffer(_SIZE)
        self._ask = statx and partial(statx, _FROM_HERE, os.fsencode(path), 0, _MASK, self._found)

    def __call__(self) -> FileState:
        if self._ask is None or self._ask() != 0:
            return FileState.of(os.stat(self._path))  # raises what is wrong
        links, inode, size, major, minor = _fields(self._found)
        return FileState(os.makedev(major, minor), inode, links, size)


def find_statx() -> Callable[..., int] | None:
    """The C library's function; None where it, or the kernel, has none."""
    try:
        function: Any = ctypes.CDLL(None).statx
    except (OSError, AttributeError):
        return None
    works = function(_FROM_HERE, b"/", 0, _MASK, ctypes.create_string_buffer(_SIZE)) == 0
    return function if works else None


statx: Final = find_statx()
