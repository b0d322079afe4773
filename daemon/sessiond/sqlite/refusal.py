"""Why a database file is not opened."""

from enum import Enum
from typing import Final


class Reason(Enum):
    """What is in the way."""

    NOT_A_FILE = "not a file"
    NOT_OURS = "not ours"
    DAMAGED = "damaged"
    SCHEMA = "schema"
    LINKED = "linked"
    NETWORK = "network"
    NO_ACCESS = "no access"
    NO_SPACE = "no space"
    IO = "io"


_EXIT_STATUS: Final = {
    Reason.NOT_A_FILE: 66,
    Reason.NOT_OURS: 65,
    Reason.DAMAGED: 65,
    Reason.SCHEMA: 65,
    Reason.LINKED: 78,
    Reason.NETWORK: 78,
    Reason.NO_ACCESS: 77,
    Reason.NO_SPACE: 73,
    Reason.IO: 74,
}


class OpenRefused(Exception):
    """The file is not opened, and nothing in it was changed.

    The text names the file, what was found, and what is allowed. ``exit_status`` is what a
    process that exists to serve this file should end with.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    @property
    def exit_status(self) -> int:
        """The matching status of ``sysexits.h``."""
        return _EXIT_STATUS[self.reason]
