"""What lies at a path: which file, how long, without asking for its times.

Since Linux 6.13 a file whose times were read gets exact ones at its next write, and then a sync
of its data takes a third longer: 125 us became 170 for a log that was looked at with ``stat``
between two commits. ``statx`` can leave the times out; Python has it from 3.15 on.
"""

import ctypes
import os
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple


class FileState(NamedTuple):
    """A file by device and inode, its number of names, its size in bytes."""

    device: int
    inode: int
    links: int
    size: int


def file_state(path: str) -> FileState:
    """What lies at a path now, links followed; opens nothing. Raises ``OSError``."""
    if _statx is None:
        return of(os.stat(path))
    found = ctypes.create_string_buffer(_SIZE)
    if _statx(_FROM_HERE, os.fsencode(path), 0, _MASK, found) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    links, inode, size, major, minor = _fields(found)
    return FileState(os.makedev(major, minor), inode, links, size)


def of(found: os.stat_result) -> FileState:
    """The same of what ``stat`` found."""
    return FileState(found.st_dev, found.st_ino, found.st_nlink, found.st_size)


# From linux/stat.h and linux/fcntl.h: type, links, inode, size; the structure of 256 bytes.
_MASK: Final = 0x001 | 0x004 | 0x100 | 0x200
_FROM_HERE: Final = -100
_SIZE: Final = 256
_fields: Final = struct.Struct("=16xI12xQQ88xII").unpack_from


def _find_statx() -> Callable[..., int] | None:
    """The C library's function; None where it, or the kernel, has none."""
    try:
        function: Any = ctypes.CDLL(None, use_errno=True).statx
    except (OSError, AttributeError):
        return None
    function.argtypes = (
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    )  # fmt: skip
    found = ctypes.create_string_buffer(_SIZE)
    if function(_FROM_HERE, b"/", 0, _MASK, found) != 0:
        return None
    result: Callable[..., int] = function
    return result


_statx: Final = _find_statx()
