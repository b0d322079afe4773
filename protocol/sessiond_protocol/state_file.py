"""``<database>.sessiond``: what a daemon says of itself beside the database it serves.

The file lock of the daemon carries no process id, so this file is how a second daemon names
the first, how clients find an unusual socket, and how a start notices that the database went
back to an older copy.
"""

import os
from enum import StrEnum
from typing import Final

import msgspec

# A state file is a few hundred bytes; whatever is longer is something else.
MAX_BYTES: Final = 65_536


class State(StrEnum):
    """How far the daemon is."""

    STARTING = "starting"
    MIGRATING = "migrating"
    SERVING = "serving"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class StateFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file's content. ``start_time`` is Unix seconds, ``generation`` hexadecimal.

    ``commits`` is the number of commits the database had at the last checkpoint or stop: a
    database with fewer went back. ``message`` says why a daemon failed, or what an operator
    must know about the files it left. ``stray_log`` is the ``device:inode`` of a log that was
    left beside a database it does not belong to; it must not be opened with it.
    """

    pid: int
    state: State
    start_time: float
    boot_id: str = ""
    socket: str = ""
    generation: str = ""
    commits: int = 0
    message: str = ""
    stray_log: str = ""

    def render(self) -> bytes:
        """The file's bytes: JSON with line breaks, for people.

        A socket path that is not UTF-8 cannot be said in JSON and is left out.
        """
        plain = msgspec.structs.replace(
            self,
            socket="" if _has_surrogates(self.socket) else self.socket,
            message=self.message.encode("utf-8", "backslashreplace").decode(),
        )
        return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def parse(data: bytes) -> StateFile | None:
    """The content, or None for bytes that are not a state file.

    Fields that a newer daemon may have added are ignored.
    """
    try:
        found = msgspec.json.decode(data, type=StateFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.pid > 0 and found.commits >= 0 and "\0" not in found.socket else None


def read(path: str) -> StateFile | None:
    """The content of a state file, or None if there is none or it is not one.

    Never waits and follows no link: the directory may be another user's.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
        try:
            data = os.read(descriptor, MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return parse(data) if data and len(data) <= MAX_BYTES else None
