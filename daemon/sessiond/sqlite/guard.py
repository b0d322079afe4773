"""The locks that protect the database from other programs, and from a second daemon.

POSIX locks vanish as soon as the process closes *any* descriptor of the file, and the next
program to close the database then deletes the log under us. Open-file-description (OFD) locks
belong to their descriptor instead. The daemon keeps one descriptor of the database and one of
the shared-memory file open for life, and holds OFD locks on them:

- a write lock on a byte that SQLite never uses: one daemon per file, whatever path led to it;
- read locks on the bytes that SQLite's shared lock uses, and on the dead-man byte of the
  shared-memory file: nobody else can take the database for himself and remove its log.
"""

import contextlib
import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from typing import Final

# From SQLite's file format: PENDING_BYTE is 0x40000000, the shared lock's bytes follow two
# bytes later; the shared-memory file's locks are bytes 120 to 127, the dead-man switch is 128.
SHARED_FIRST: Final = 0x4000_0002
SHARED_SIZE: Final = 510
SHM_FIRST_LOCK: Final = 120
SHM_FIRST_READER: Final = 123
SHM_DEAD_MAN: Final = 128
DAEMON_BYTE: Final = 2**62

_FLOCK: Final = "hhqqixxxx"  # struct flock on 64-bit Linux: type, whence, start, length, pid


class Held(Exception):
    """Another process holds the lock. ``pid`` is None where the kernel does not say."""

    def __init__(self, what: str, pid: int | None) -> None:
        super().__init__(
            f"{what} is locked by {'another process' if pid is None else f'pid {pid}'}"
        )
        self.pid = pid


def supported() -> bool:
    """Whether this system has open-file-description locks."""
    return hasattr(fcntl, "F_OFD_SETLK")


def _lock(descriptor: int, kind: int, first: int, size: int) -> bool:
    """Take an OFD lock; False if somebody else has a conflicting one."""
    request = struct.pack(_FLOCK, kind, os.SEEK_SET, first, size, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def holder(descriptor: int, first: int, size: int = 1) -> int | None:
    """The pid that holds a conflicting POSIX lock on these bytes; None if nobody does.

    Zero if the holder is in another pid namespace; -1 if it is an OFD lock, which has no pid.
    """
    request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, first, size, 0)
    answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, request))
    return None if answer[0] == fcntl.F_UNLCK else int(answer[4])


@dataclass(frozen=True, slots=True)
class Identity:
    """A file by device and inode."""

    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> "Identity | None":
        """What lies at a path now; opens nothing."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino)


class Guard:
    """The descriptors and locks of one database file, held until the process ends."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._database = -1
        self._shared_memory = -1
        self._files: dict[str, Identity] = {}
        self._size_at_open = 0
        self.guarded = False

    def take_daemon_lock(self) -> None:
        """Become the one daemon of this file; made if it is missing. Raises :class:`Held`.

        Comes before SQLite opens the file.
        """
        if self._database < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._database = os.open(self.path, flags, 0o600)
        if supported() and not _lock(self._database, fcntl.F_WRLCK, DAEMON_BYTE, 1):
            raise Held(self.path, None)

    @property
    def identity(self) -> Identity:
        """The database file that was locked."""
        found = os.fstat(self._database)
        return Identity(found.st_dev, found.st_ino)

    def protect(self) -> None:
        """Guard the database and its log. Comes after SQLite switched the file to its log.

        Raises :class:`Held` while another program holds the file alone; then try again.
        """
        if not supported():
            self._remember()
            return
        if self._shared_memory < 0:
            self._shared_memory = os.open(f"{self.path}-shm", os.O_RDWR | os.O_CLOEXEC)
        if not _lock(self._database, fcntl.F_RDLCK, SHARED_FIRST, SHARED_SIZE):
            raise Held(self.path, holder(self._database, SHARED_FIRST, SHARED_SIZE))
        if not _lock(self._shared_memory, fcntl.F_RDLCK, SHM_DEAD_MAN, 1):
            raise Held(f"{self.path}-shm", holder(self._shared_memory, SHM_DEAD_MAN))
        self.guarded = True
        self._remember()

    def _remember(self) -> None:
        for path in (self.path, f"{self.path}-wal", f"{self.path}-shm"):
            found = Identity.at(path)
            if found is not None:
                self._files[path] = found
        self._size_at_open = os.stat(self.path).st_size

    def alarm(self) -> str | None:
        """Whether the files are still those that are written to; None if they are.

        An alarm, not a protection: it is asked after the write lock is taken and again after
        each commit, before anybody is answered.
        """
        for path, remembered in self._files.items():
            try:
                found = os.stat(path)
            except OSError:
                return f"{path} was deleted while the daemon had it open"
            if (found.st_dev, found.st_ino) != (remembered.device, remembered.inode):
                return f"{path} was replaced while the daemon had it open"
            if path == self.path:
                if found.st_nlink != 1:
                    return f"{path} has {found.st_nlink} names, a database must have one"
                if found.st_size < self._size_at_open:
                    return f"{path} was cut from {self._size_at_open} to {found.st_size} bytes"
        return None

    def readers(self) -> list[int]:
        """The pids that hold a read mark of the log, this process left out; 0 is unknown."""
        if self._shared_memory < 0 or not supported():
            return []
        found = {
            holder(self._shared_memory, byte)
            for byte in range(SHM_FIRST_READER, SHM_FIRST_LOCK + 8)
        }
        return sorted(pid for pid in found if pid is not None and pid not in (os.getpid(), -1))

    def writer(self) -> int | None:
        """The pid that holds SQLite's write lock, as far as the kernel says it."""
        if self._shared_memory < 0 or not supported():
            return None
        return holder(self._shared_memory, SHM_FIRST_LOCK)

    def save_orphaned_log(self, stamp: str) -> str | None:
        """Copy a log whose name is gone aside, through the descriptor that is open on it.

        Nothing of the database is opened or closed. The copy's path, or None if there is none.
        """
        wanted = self._files.get(f"{self.path}-wal")
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError, ValueError):
                found = os.fstat(int(name))
                if wanted == Identity(found.st_dev, found.st_ino):
                    return self._copy(int(name), f"{self.path}-wal.orphan-{stamp}")
        return None

    def _copy(self, descriptor: int, target: str) -> str:
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            offset = 0
            while piece := os.pread(descriptor, 1024 * 1024, offset):
                os.write(copy, piece)
                offset += len(piece)
            os.fsync(copy)
        finally:
            os.close(copy)
        return target
