"""The closed set of error codes and the exceptions they become.

One root, :class:`SessiondError`, with ``code``, ``retryable`` and ``data``; one subclass per
code. Subclasses keep the types that callers of the in-process store already catch: a title
conflict is also a ``ValueError``, an unknown session also a ``sqlite3.IntegrityError`` (that
type is added by the client library, because this package imports no database).
"""

from enum import StrEnum
from typing import Any, ClassVar

# An error as it stands on the wire: code, message, data.
WireError = tuple[str, str, dict[str, Any] | None]


class Code(StrEnum):
    """Every code that may stand first in an error on the wire."""

    INVALID_PARAMS = "invalid_params"
    UNKNOWN_METHOD = "unknown_method"
    INTEGRITY = "integrity"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    SHUTTING_DOWN = "shutting_down"
    DISK_FULL = "disk_full"
    DATABASE = "database"
    UNAUTHORIZED = "unauthorized"
    INTERNAL = "internal"
    OUT_OF_ORDER = "out_of_order"
    MIGRATING = "migrating"


# A failure for a reason of the request is decided: it has a receipt and is final.
DECIDED: frozenset[Code] = frozenset(
    {Code.INTEGRITY, Code.CONFLICT, Code.NOT_FOUND, Code.INVALID_PARAMS, Code.TIMEOUT}
)

# A refusal for a reason of the daemon decides nothing: the same number may be sent again.
REFUSALS: frozenset[Code] = frozenset(
    {
        Code.DISK_FULL,
        Code.DATABASE,
        Code.OVERLOADED,
        Code.SHUTTING_DOWN,
        Code.OUT_OF_ORDER,
        Code.MIGRATING,
    }
)


class Failure(Exception):
    """A request's failure as it stands on the wire: ``[code, message, data]``.

    The daemon raises it where a request fails; the client turns it into a
    :class:`SessiondError`.
    """

    def __init__(self, code: Code, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def wire(self) -> WireError:
        """The error element of a response."""
        return (self.code.value, self.message, self.data)


class SessiondError(Exception):
    """Root of everything the client library raises.

    ``code`` is the code on the wire, or the library's own (``outcome_unknown``,
    ``unavailable``, ``closed``). ``retryable`` says whether the same call may succeed later
    without a change. ``data`` holds what the daemon added.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.data: dict[str, Any] = data or {}
