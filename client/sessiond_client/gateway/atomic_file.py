"""Files that readers see either as they were or as they became, whatever happens in between.

Several processes share these files. Whoever changes one holds an exclusive ``flock``; programs
that only read need none, because a file is replaced by rename and never changed in place.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sessiond_client._clock import clock

# What people say to an agent is nobody else's business.
PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700


# Who holds a lock needs it for milliseconds. One that was stopped while it did, or whose event
# loop stands still, must not stop all others too.
PATIENCE: Final = 10.0
_PAUSES: Final = (0.001, 0.05)


@contextmanager
def held(path: Path, patience: float = PATIENCE) -> Iterator[int]:
    """Hold the exclusive lock on ``path``, made empty if it is not there; gives a descriptor.

    The descriptor reads, and writes at the end. Blocks while another process holds the lock,
    and raises ``TimeoutError`` when that has been so for ``patience`` seconds.
    """
    deadline = clock() + patience
    path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
        try:
            _lock(descriptor, path, deadline)
            if _is_at(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path, deadline: float) -> None:
    # Asking again and again, because a wait for a file lock can only be ended by a signal.
    pause, longest = _PAUSES
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if clock() >= deadline:
                raise TimeoutError(f"another process does not let go of {path}") from None
        time.sleep(pause)
        pause = min(2 * pause, longest)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether ``path`` still names the open file: it may have been replaced before we locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def replace_file(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Put ``data`` in the place of ``path``'s content, and on disk, or leave it as it was.

    The caller holds the lock that everybody who replaces this file takes. ``mode`` is for the
    new file; without it, that of the file it replaces, or private.
    """
    aside = path.with_name(f"{path.name}.aside")
    with suppress(FileNotFoundError):
        aside.unlink()  # left by a process that was killed
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        try:
            os.fchmod(descriptor, _mode_of(path) if mode is None else mode)
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            aside.unlink()
        raise
    _sync_directory(path.parent)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``: a nearly full disk may take it in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _mode_of(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        return PRIVATE_FILE


def _sync_directory(directory: Path) -> None:
    """Make a rename in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
