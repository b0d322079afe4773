"""What a read query needs of a connection: the daemon's and the client's both have it."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """The rows of one statement: all of them, or some and then ``close``."""

    def fetchall(self) -> list[Any]:
        """Every row, as tuples in the order of the selected columns."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The next rows, one by one."""
        ...

    def close(self) -> None:
        """End the statement before its last row."""
        ...


class ReadConnection(Protocol):
    """The part of ``sqlite3.Connection`` and ``apsw.Connection`` that queries use.

    A query ends each statement (``fetchall`` or ``close``) before it returns: an open statement
    would hold a snapshot and pin the write-ahead log.
    """

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows:
        """Run one statement."""
        ...
