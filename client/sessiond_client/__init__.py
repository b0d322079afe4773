"""The client library of sessiond: an agent's conversations, stored by the daemon.

``SessionDB`` is a drop-in for the in-process store of schema 6, ``AsyncSessionDB`` the same for
asyncio. ``DEFAULT_DB_PATH`` is computed when it is read, because the environment may change after
the import; ``AsyncSessionDB`` is loaded when it is read, because a blocking program needs no
asyncio.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sessiond_client._errors import (
    Closed,
    Conflict,
    DatabaseError,
    DiskFull,
    Integrity,
    InvalidParams,
    Migrating,
    NotFound,
    OperationalError,
    OutcomeUnknown,
    Overloaded,
    ShuttingDown,
    Timeout,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownMethod,
)
from sessiond_client._sync import SessionDB
from sessiond_protocol.errors import SessiondError
from sessiond_protocol.paths import resolve_database
from sessiond_protocol.requests.feed import Event
from sessiond_protocol.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from sessiond_client._async import AsyncSessionDB

    DEFAULT_DB_PATH: Path

__all__ = [
    "DEFAULT_DB_PATH",
    "SCHEMA_VERSION",
    "AsyncSessionDB",
    "Closed",
    "Conflict",
    "DatabaseError",
    "DiskFull",
    "Event",
    "Integrity",
    "InvalidParams",
    "Migrating",
    "NotFound",
    "OperationalError",
    "OutcomeUnknown",
    "Overloaded",
    "SessionDB",
    "SessiondError",
    "ShuttingDown",
    "Timeout",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnknownMethod",
]


def __getattr__(name: str) -> Any:
    if name == "DEFAULT_DB_PATH":
        return Path(resolve_database(None, os.environ))
    if name == "AsyncSessionDB":
        from sessiond_client._async import AsyncSessionDB

        globals()[name] = AsyncSessionDB  # found without this function from now on
        return AsyncSessionDB
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
