"""Databases in memory for the tests of the read queries, made from the schema's statements."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sessiond_protocol import schema
from sessiond_protocol.content import text_hash


@contextmanager
def fresh(*, side_tables: bool = True, active: bool = False) -> Iterator[sqlite3.Connection]:
    """An empty schema 6 file; without side tables as another program makes it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for statement in schema.statements():
            if side_tables or "sessiond_" not in statement:
                connection.execute(statement)
        if active:
            connection.execute("ALTER TABLE messages ADD COLUMN active INTEGER DEFAULT 1")
        yield connection
    finally:
        connection.close()


def add_session(
    connection: sqlite3.Connection, session_id: str, started_at: float = 1.0, **columns: Any
) -> None:
    """Insert a session; ``source`` is ``cli`` unless given."""
    _insert(
        connection,
        "sessions",
        {"id": session_id, "source": "cli", "started_at": started_at} | columns,
    )


def add_message(
    connection: sqlite3.Connection,
    session_id: str,
    content: Any = None,
    role: str = "user",
    timestamp: float = 1.0,
    **columns: Any,
) -> int:
    """Insert a message; its id."""
    row = {"session_id": session_id, "role": role, "content": content, "timestamp": timestamp}
    return _insert(connection, "messages", row | columns)


def add_structure(connection: sqlite3.Connection, message_id: int, value: str, text: str) -> None:
    """Store the structure that a message's text stands for."""
    row = {"message_id": message_id, "value": value, "text_hash": text_hash(text)}
    _insert(connection, "sessiond_content", row)


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> int:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"
    stored = connection.execute(sql, tuple(row.values())).lastrowid
    assert stored is not None
    return stored


class Recorded:
    """A connection that keeps the statements it runs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.statements: list[tuple[str, tuple[Any, ...]]] = []
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:
        self.statements.append((sql, tuple(parameters)))
        return self._connection.execute(sql, parameters)

    def plan(self) -> str:
        """What SQLite would do for the last statement, a step a line."""
        sql, parameters = self.statements[-1]
        rows = self._connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        return "\n".join(row[3] for row in rows)
