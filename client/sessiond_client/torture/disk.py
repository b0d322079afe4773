"""Taking the disk's room away from the daemon, and giving it back."""

import contextlib
import ctypes
import errno
import os
import resource
from pathlib import Path
from typing import Final, Protocol

# From linux/sched.h and linux/mount.h; Python 3.11 has no names for them.
_CLONE_NEWNS: Final = 0x0002_0000
_CLONE_NEWUSER: Final = 0x1000_0000
_MS_REMOUNT: Final = 0x20
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x4_0000

_MNT_DETACH: Final = 2

_ROOM: Final = 4 << 30  # memory is only taken for what is stored
_TRIES: Final = 1_000
_LEFT: Final = 16_384  # bytes that are left on a disk that counts as full


class Disk(Protocol):
    """A place for the database whose room can be taken away."""

    def starve(self, daemon: int) -> None:
        """Leave next to no room; ``daemon`` is the process that is to feel it."""
        ...

    def relieve(self, daemon: int) -> None:
        """Give the room back."""
        ...

    def leave(self) -> None:
        """Done: nobody uses it any more."""
        ...


class Mounted:
    """A file system in memory, seen by this process and its children only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def starve(self, daemon: int) -> None:
        """Make the file system as small as what it holds."""
        for left in range(_TRIES, -1, -1):
            found = os.statvfs(self._path)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            try:
                _mount(self._path, _MS_REMOUNT, f"size={used + _LEFT}")
            except OSError as error:
                # More than that was written in the meantime, by a copy of the database, say.
                if error.errno != errno.EINVAL or not left:
                    raise
            else:
                return

    def relieve(self, daemon: int) -> None:
        """Make it large again."""
        _mount(self._path, _MS_REMOUNT, f"size={_ROOM}")

    def leave(self) -> None:
        """Let go of it and of all it holds, so that its folder can be removed."""
        _check(_libc().umount2(os.fsencode(self._path), _MNT_DETACH))


class Limited:
    """A limit on the size of files, for the daemon only.

    Not the same as a full disk: a write over the limit is an I/O error to SQLite, so that the
    daemon may have to leave and be started again.
    """

    def __init__(self, database: Path) -> None:
        self._database = database

    def starve(self, daemon: int) -> None:
        """Let no file of the daemon grow by more than a little."""
        with contextlib.suppress(OSError):
            size = os.stat(f"{self._database}-wal").st_size
            _, hard = resource.prlimit(daemon, resource.RLIMIT_FSIZE)
            resource.prlimit(daemon, resource.RLIMIT_FSIZE, (size + _LEFT, hard))

    def relieve(self, daemon: int) -> None:
        """Take the limit away."""
        with contextlib.suppress(OSError):
            _, hard = resource.prlimit(daemon, resource.RLIMIT_FSIZE)
            resource.prlimit(daemon, resource.RLIMIT_FSIZE, (hard, hard))

    def leave(self) -> None:
        """Nothing was taken that would have to be given back."""


def private_disk(path: Path) -> Mounted | None:
    """A small file system of one's own at a folder; None where that is not permitted.

    Comes before this process has threads: it leaves its name space of mounts, so that nobody
    else sees the file system, which goes with the last process in it.
    """
    child = os.fork()
    if child == 0:
        # A failure half-way cannot be taken back, so somebody else tries first.
        try:
            _settle_at(path)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        return None
    _settle_at(path)
    return Mounted(path)


def _settle_at(path: Path) -> None:
    _leave_mounts()
    _mount(path, 0, f"size={_ROOM},mode=0700")


def _leave_mounts() -> None:
    try:
        _check(_libc().unshare(_CLONE_NEWNS))
    except PermissionError:
        uid, gid = os.geteuid(), os.getegid()
        _check(_libc().unshare(_CLONE_NEWNS | _CLONE_NEWUSER))
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    _check(_libc().mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))


def _mount(path: Path, flags: int, options: str) -> None:
    _check(_libc().mount(b"tmpfs", os.fsencode(path), b"tmpfs", flags, options.encode()))


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = (
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p,
    )  # fmt: skip
    return libc


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
