"""Open-file-description locks on bytes of a file, and who holds which bytes.

POSIX record locks belong to the process and vanish as soon as it closes *any* descriptor of the
file. Open-file-description (OFD) locks belong to one open of the file and live as long as it.
The two kinds conflict with each other as usual. Linux has had them since 3.15; see fcntl(2).
"""

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

READ: Final = fcntl.F_RDLCK
WRITE: Final = fcntl.F_WRLCK

UNKNOWN_PID: Final = 0

# The kernel names one holder per question: more than this many bytes are asked for at once.
_BYTES_TO_ASK_FOR: Final = 8
_END: Final = 2**63 - 1

_PROC_LOCKS: Final = "/proc/locks"

# struct flock with 64-bit offsets: type, whence, start, length, pid, padded like a C struct.
_FLOCK: Final = struct.Struct("@hhqqi0q")


@dataclass(frozen=True, slots=True, order=True)
class ByteLock:
    """A POSIX lock: who holds which bytes, ``last`` included.

    ``pid`` is :data:`UNKNOWN_PID` if the holder is in a pid namespace that cannot be seen.
    ``exclusive`` is that of a writer.
    """

    pid: int
    first: int
    last: int
    exclusive: bool


def supported() -> bool:
    """Whether this system has OFD locks as Linux knows them."""
    return sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK")


def take(descriptor: int, kind: int, first: int, size: int) -> bool:
    """Take an OFD lock without waiting; False if somebody else has a conflicting one."""
    request = _FLOCK.pack(kind, os.SEEK_SET, first, size, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def holders(descriptor: int, first: int, size: int = 1) -> list[ByteLock]:
    """The POSIX locks on these bytes, our own process's among them.

    OFD locks carry no pid and are left out. ``/proc/locks`` lists all holders; where it cannot
    be read, and for holders it may not show, the kernel names one conflicting holder per byte.
    """
    found = os.fstat(descriptor)
    last = first + size - 1
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    seen = {
        lock
        for lock in _read_proc_locks(device, found.st_ino)
        if lock.first <= last and lock.last >= first
    }
    one_by_one = size <= _BYTES_TO_ASK_FOR
    for byte in range(first, first + size) if one_by_one else (first,):
        lock = _ask_kernel(descriptor, byte, 1 if one_by_one else size)
        if lock is not None and lock.pid >= 0 and not any(_covers(known, lock) for known in seen):
            seen.add(lock)
    return sorted(seen)


def _covers(known: ByteLock, lock: ByteLock) -> bool:
    return known.pid == lock.pid and known.first <= lock.first and known.last >= lock.last


def _ask_kernel(descriptor: int, first: int, size: int) -> ByteLock | None:
    """One lock in the way of writing these bytes, the kernel chooses which."""
    request = _FLOCK.pack(WRITE, os.SEEK_SET, first, size, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, request)
    kind, _, start, length, pid = _FLOCK.unpack(answer)
    if kind == fcntl.F_UNLCK:
        return None
    last = start + length - 1 if length else _END
    return ByteLock(pid, start, last, kind == WRITE)


def _read_proc_locks(device: str, inode: int) -> list[ByteLock]:
    try:
        with open(_PROC_LOCKS, encoding="ascii") as listing:
            return list(parse_proc_locks(listing.read(), device, inode))
    except (OSError, UnicodeDecodeError):
        return []


def parse_proc_locks(listing: str, device: str, inode: int) -> Iterator[ByteLock]:
    """The POSIX locks on one file in the text of ``/proc/locks``; see proc(5).

    ``device`` is ``major:minor`` in hexadecimal, two digits each at least. Waiting requests
    (``->``) hold nothing.
    """
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) != 8 or fields[1] != "POSIX":
            continue
        if fields[5] != f"{device}:{inode}":
            continue
        last = _END if fields[7] == "EOF" else int(fields[7])
        yield ByteLock(int(fields[4]), int(fields[6]), last, fields[3] == "WRITE")


def describe(pid: int | None) -> str:
    """A holder for people: ``pid 4711 (sqlite3)``, as much of it as can be known."""
    if pid is None or pid <= 0:
        return "another process"
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as name:
            return f"pid {pid} ({name.read().strip()})"
    except OSError:
        return f"pid {pid}"
