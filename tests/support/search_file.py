"""A database with messages in both indexes, as the daemon keeps them, through ``sqlite3``."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sessiond_protocol import schema
from sessiond_protocol.queries.facts import read_facts
from sessiond_protocol.search import cjk
from sessiond_protocol.search.messages import SearchPage, search


class SearchFile:
    """One database in memory. Sessions are made as their messages come."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in schema.statements():
            self.connection.execute(statement)
        self.connection.execute("INSERT INTO sessiond_meta (id, generation) VALUES (1, x'00')")

    def session(self, session_id: str, source: str = "cli") -> None:
        self.connection.execute(
            "INSERT OR IGNORE INTO sessions (id, source, model, started_at)"
            " VALUES (?, ?, 'm', 5.0)",
            (session_id, source),
        )

    def foreign(
        self, content: str | bytes | None, session_id: str = "s", role: str = "user"
    ) -> int:
        """Append as another program does: its triggers fill ``messages_fts``, nothing else."""
        self.session(session_id)
        self.connection.execute(
            "INSERT INTO messages (session_id, role, content, timestamp) VALUES (?, ?, ?, 7.0)",
            (session_id, role, content),
        )
        return int(self.connection.execute("SELECT last_insert_rowid()").fetchall()[0][0])

    def append(self, content: str | None, session_id: str = "s", role: str = "user") -> int:
        """Append as the daemon does: the pair index has looked at the message too."""
        message_id = self.foreign(content, session_id, role)
        self.look(message_id, content)
        return message_id

    def look(self, message_id: int, content: str | None) -> None:
        """Look at a message of another program, as the daemon does some time later."""
        pairs = cjk.pairs(content) if content is not None else None
        if pairs is not None:
            row = (message_id, pairs)
            self.connection.execute("INSERT INTO sessiond_cjk VALUES (?, ?)", row)
            self.connection.execute(
                "INSERT INTO sessiond_cjk_fts (rowid, pairs) VALUES (?, ?)", row
            )
        self.connection.execute("UPDATE sessiond_meta SET cjk_cursor = ?", (message_id,))

    def extend(self, contents: Iterable[str]) -> list[int]:
        self.connection.execute("BEGIN")
        ids = [self.append(content) for content in contents]
        self.connection.execute("COMMIT")
        return ids

    def search(self, query: str, **filters: Any) -> SearchPage:
        facts = read_facts(self.connection)
        return search(self.connection, facts, query, **filters)

    def found(self, query: str, **filters: Any) -> list[int]:
        """The ids of all hits, in their order."""
        return [row["id"] for row in self.search(query, limit=1_000_000, **filters).rows]


@contextmanager
def search_file() -> Iterator[SearchFile]:
    """A new database, closed afterwards."""
    file = SearchFile()
    try:
        yield file
    finally:
        file.connection.close()
