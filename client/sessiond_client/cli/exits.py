"""What ``sessionctl`` ends with: exit statuses as in sysexits.h, and errors as one line."""

import os
from typing import Final

import click

from sessiond_protocol.errors import SessiondError

# No daemon answers is 69, as sysexits has it for a service that is not available.
_STATUS: Final[dict[str, int]] = {
    "invalid_params": os.EX_DATAERR,
    "integrity": os.EX_DATAERR,
    "conflict": os.EX_DATAERR,
    "too_large": os.EX_DATAERR,
    "not_found": os.EX_NOINPUT,
    "overloaded": os.EX_TEMPFAIL,
    "timeout": os.EX_TEMPFAIL,
    "shutting_down": os.EX_TEMPFAIL,
    "migrating": os.EX_TEMPFAIL,
    "outcome_unknown": os.EX_TEMPFAIL,
    "disk_full": os.EX_IOERR,
    "database": os.EX_IOERR,
    "unauthorized": os.EX_NOPERM,
    "unavailable": os.EX_UNAVAILABLE,
    "unknown_method": os.EX_PROTOCOL,
}

NOTHING_FOUND: Final = 1
INTERRUPTED: Final = 130  # 128 and the number of SIGINT, as shells have it
TERMINATED: Final = 143  # the same for SIGTERM


class Refused(click.ClickException):
    """The command cannot be carried out; ``status`` is what the program ends with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: SessiondError) -> int:
    """The exit status for an error of the library."""
    return _STATUS.get(error.code, os.EX_SOFTWARE)


def status_of_file(error: OSError) -> int:
    """The exit status for a file that cannot be read or written."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return os.EX_NOINPUT
    return os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_IOERR
