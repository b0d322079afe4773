"""``<database>.sessiond``: what a daemon says of itself beside the database it serves."""

from enum import StrEnum

import msgspec


class State(StrEnum):
    """How far the daemon is."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class StateFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file's content. ``start_time`` is Unix seconds, ``generation`` hexadecimal.

    ``commits`` is the number of commits the database had at the last checkpoint or stop: a
    database with fewer went back. ``message`` says why a daemon failed, or what an operator
    must know about the files it left.
    """

    pid: int
    state: State
    start_time: float
    boot_id: str = ""
    socket: str = ""
    generation: str = ""
    commits: int = 0
    message: str = ""

    def render(self) -> bytes:
        """The file's bytes: JSON with line breaks, for people."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def parse(data: bytes) -> StateFile | None:
    """The content, or None for bytes that are not a state file."""
    try:
        return msgspec.json.decode(data, type=StateFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read(path: str) -> StateFile | None:
    """The content of a state file, or None if there is none or it is not one."""
    try:
        with open(path, "rb") as file:
            return parse(file.read(65_536))
    except OSError:
        return None
