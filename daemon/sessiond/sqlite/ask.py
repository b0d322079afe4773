"""Asking the database a short question, and keeping a heartbeat through a long statement."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import apsw

# Some milliseconds of SQLite's work: often enough for a heartbeat, too seldom to cost anything.
_INSTRUCTIONS_PER_BEAT: Final = 50_000


def rows(
    connection: apsw.Connection, sql: str, parameters: Sequence[Any] | None = None
) -> list[tuple[Any, ...]]:
    """All rows of a statement, which is finished afterwards and holds no snapshot."""
    return connection.execute(sql, parameters).fetchall()


def value(connection: apsw.Connection, sql: str, parameters: Sequence[Any] | None = None) -> Any:
    """The first column of the first row; there must be one."""
    return rows(connection, sql, parameters)[0][0]


def size_in_bytes(connection: apsw.Connection) -> int:
    """The database's size, pages in the log included."""
    pages: int = value(connection, "PRAGMA page_count")
    page_size: int = value(connection, "PRAGMA page_size")
    return pages * page_size


@contextmanager
def beating(connection: apsw.Connection, beat: Callable[[], None]) -> Iterator[None]:
    """Call ``beat`` again and again while a statement of this connection runs.

    What it raises ends the statement.
    """

    def handler() -> bool:
        beat()
        return False

    connection.set_progress_handler(handler, _INSTRUCTIONS_PER_BEAT, id=handler)
    try:
        yield
    finally:
        connection.set_progress_handler(None, id=handler)
