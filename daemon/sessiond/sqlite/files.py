"""Files as the system knows them: how large, how much room, made durable, removed."""

import contextlib
import logging
import os
from typing import Final

from sessiond.sqlite.file_state import Look
from sessiond.sqlite.own_names import with_companions

logger = logging.getLogger("sessiond.files")

# What a copy may need beside its pages.
SPARE_BYTES: Final = 1 << 20


def size(path: str) -> int:
    """How many bytes a file has; 0 where none can be seen."""
    try:
        return Look(path)().size
    except OSError:
        return 0


def free_bytes(folder: str) -> int:
    """How much room a folder's file system has for this user."""
    place = os.statvfs(folder)
    return place.f_bavail * place.f_frsize


def sync(path: str) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(path: str) -> None:
    """Remove a copy that has no value, with what SQLite may have left beside it."""
    for name in with_companions(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def discard_quietly(path: str) -> None:
    """The same where something worse is being told already."""
    try:
        discard(path)
    except OSError as error:
        logger.warning("cannot remove the unfinished copy %s: %s", path, error)
