"""What a read query needs of a connection: the daemon's and the client's both have it."""

from collections.abc import Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """The rows of one finished statement."""

    def fetchall(self) -> list[Any]:
        """Every row, as tuples in the order of the selected columns."""
        ...


class ReadConnection(Protocol):
    """The part of ``sqlite3.Connection`` and ``apsw.Connection`` that queries use.

    A query runs each statement to its end (``fetchall``) before it returns: an open statement
    would hold a snapshot and pin the write-ahead log.
    """

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows:
        """Run one statement."""
        ...
