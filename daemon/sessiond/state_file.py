"""Writing ``<database>.sessiond``, the file in which a daemon speaks of itself."""

import logging
import os
import time
from typing import Any, Final

import msgspec

from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State, StateFile

log = logging.getLogger("sessiond.state")

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class Announcement:
    """This process's state file. Only the holder of the daemon's lock on the database writes it.

    Every change replaces the file as a whole, so that readers see the old content or the new.
    A file that cannot be written is logged and no reason to stop.
    """

    def __init__(self, database: str) -> None:
        self._path = paths.state_file(database)
        self._state = StateFile(
            pid=os.getpid(), state=State.STARTING, start_time=time.time(), boot_id=boot_id()
        )

    @property
    def state(self) -> StateFile:
        """What was said last."""
        return self._state

    def take_over(self) -> StateFile | None:
        """Say that this daemon starts; what its predecessor said last, or None.

        What the predecessor knew of the database stays in the file until this daemon knows
        better: a start that is cut short must not lose it.
        """
        before = state_file.read(self._path)
        if before is None:
            self.say(state=State.STARTING)
        else:
            self.say(
                state=State.STARTING,
                generation=before.generation,
                commits=before.commits,
                stray_log=before.stray_log,
            )
        return before

    def say(self, **changes: Any) -> None:
        """Change fields of :class:`~sessiond_protocol.state_file.StateFile`."""
        self._state = msgspec.structs.replace(self._state, **changes)
        try:
            replace_file(self._path, self._state.render())
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error.strerror)


def replace_file(path: str, data: bytes) -> None:
    """Put a file, readable for everybody, in the place of the one at ``path``."""
    aside = f"{path}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(aside, flags, 0o644)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(data)
        os.rename(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def boot_id() -> str:
    """Which start of the machine this is, ``""`` if it does not say."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
