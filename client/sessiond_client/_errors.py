"""The library's exceptions. Each keeps the type that callers of the in-process store catch."""

import sqlite3
from typing import ClassVar

from sessiond_protocol.errors import Code, SessiondError, WireError

_BY_CODE: dict[str, type[SessiondError]] = {}


def _register(error: type[SessiondError]) -> type[SessiondError]:
    _BY_CODE[error.code] = error
    return error


@_register
class InvalidParams(SessiondError, ValueError):
    """An argument does not fit; the message names it."""

    code: ClassVar[str] = Code.INVALID_PARAMS


@_register
class Integrity(SessiondError, sqlite3.IntegrityError):
    """A session, or a parent, does not exist."""

    code: ClassVar[str] = Code.INTEGRITY


@_register
class Conflict(SessiondError, ValueError):
    """A title is taken, or another request has used this number."""

    code: ClassVar[str] = Code.CONFLICT


@_register
class NotFound(SessiondError, KeyError):
    """What the request is about does not exist."""

    code: ClassVar[str] = Code.NOT_FOUND

    def __str__(self) -> str:
        return self.message


@_register
class TooLarge(SessiondError, ValueError):
    """The request exceeds the daemon's ``max_request_bytes``."""

    code: ClassVar[str] = Code.TOO_LARGE


class OperationalError(SessiondError, sqlite3.OperationalError):
    """The daemon or its database could not serve the request."""


@_register
class Overloaded(OperationalError):
    """The daemon refused for want of room, until the deadline."""

    code: ClassVar[str] = Code.OVERLOADED
    retryable: ClassVar[bool] = True


@_register
class Timeout(OperationalError, TimeoutError):
    """The deadline passed and the request was certainly not applied."""

    code: ClassVar[str] = Code.TIMEOUT
    retryable: ClassVar[bool] = True


@_register
class ShuttingDown(OperationalError):
    """The daemon was stopping, until the deadline."""

    code: ClassVar[str] = Code.SHUTTING_DOWN
    retryable: ClassVar[bool] = True


@_register
class DiskFull(OperationalError):
    """There is no room for the write; nothing of it was stored. Reads go on."""

    code: ClassVar[str] = Code.DISK_FULL
    retryable: ClassVar[bool] = True


@_register
class DatabaseError(OperationalError):
    """SQLite reported an error; nothing of the request was stored."""

    code: ClassVar[str] = Code.DATABASE


@_register
class Migrating(OperationalError):
    """The daemon was still migrating the file when the deadline passed."""

    code: ClassVar[str] = Code.MIGRATING
    retryable: ClassVar[bool] = True


@_register
class Unauthorized(SessiondError, PermissionError):
    """The daemon does not serve this user, or the daemon is not one to trust."""

    code: ClassVar[str] = Code.UNAUTHORIZED


@_register
class UnknownMethod(SessiondError):
    """The daemon is older than this library and does not know the request."""

    code: ClassVar[str] = Code.UNKNOWN_METHOD


class Unavailable(OperationalError, ConnectionError):
    """No daemon answers, and none could be started. The request was not sent."""

    code: ClassVar[str] = "unavailable"
    retryable: ClassVar[bool] = True


class OutcomeUnknown(OperationalError):
    """Nobody can say whether the write was applied.

    Raised only when the deadline passed without contact after the write was sent, or when the
    database went back to an earlier state. ``data`` has ``client_id`` and ``seq`` for
    ``request_status``.
    """

    code: ClassVar[str] = "outcome_unknown"


class Closed(SessiondError, RuntimeError):
    """The object was closed before the call."""

    code: ClassVar[str] = "closed"


def from_wire(error: WireError) -> SessiondError:
    """The exception for an error as it stands on the wire."""
    code, message, data = error
    return _BY_CODE.get(code, SessiondError)(message, data)
