"""The plain schema and its statements: what every peer runs that has no store of its own.

The transactions around the statements are the peer's: that is what the peers differ in.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from sessiond_client.bench.operations import (
    AddTokens,
    Append,
    AppendMany,
    ListSessions,
    Message,
    Operation,
    ReadTranscript,
    Search,
    prefilled_sessions,
)
from sessiond_protocol import schema

# Messages that one transaction stores, and one insertion indexes, before the work begins.
_STORED_PER_TRANSACTION: Final = 2000

ADD_SESSION: Final = "INSERT OR IGNORE INTO sessions (id, source, started_at) VALUES (?, 'cli', ?)"
ADD_MESSAGE: Final = (
    "INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, tool_name,"
    " timestamp, token_count, finish_reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
COUNT_MESSAGES: Final = (
    "UPDATE sessions SET message_count = message_count + ?,"
    " tool_call_count = tool_call_count + ? WHERE id = ?"
)
_ADD_TOKENS: Final = (
    "UPDATE sessions SET input_tokens = input_tokens + ?, output_tokens = output_tokens + ?,"
    " model = coalesce(model, ?) WHERE id = ?"
)
INDEX_AFTER: Final = (
    "INSERT INTO messages_fts (rowid, content) SELECT id, content FROM messages WHERE id > ?"
)
LAST_MESSAGE: Final = "SELECT coalesce(max(id), 0) FROM messages"

_TRANSCRIPT: Final = "SELECT * FROM messages WHERE session_id = ? ORDER BY timestamp, id"
_LIST: Final = (
    "SELECT s.*,"
    " (SELECT substr(m.content, 1, 63) FROM messages m WHERE m.session_id = s.id"
    "   AND m.role = 'user' AND m.content IS NOT NULL ORDER BY m.timestamp, m.id LIMIT 1),"
    " coalesce((SELECT max(m.timestamp) FROM messages m WHERE m.session_id = s.id), s.started_at)"
    " FROM sessions s ORDER BY s.started_at DESC LIMIT 20"
)
_SEARCH: Final = (
    "SELECT m.id, m.session_id, m.role, m.timestamp, m.tool_name, s.source, s.model, s.started_at,"
    " snippet(messages_fts, 0, '>>>', '<<<', '...', 40)"
    " FROM messages_fts JOIN messages m ON m.id = messages_fts.rowid"
    " JOIN sessions s ON s.id = m.session_id"
    " WHERE messages_fts MATCH ? ORDER BY rank LIMIT 20"
)
# What SQLite itself needs to answer a search, without anything that a store adds.
BARE_SEARCH: Final = (
    "SELECT rowid, rank, snippet(messages_fts, 0, '>>>', '<<<', '...', 40)"
    " FROM messages_fts WHERE messages_fts MATCH ? ORDER BY rank LIMIT 20"
)


class Connection(Protocol):
    """What ``sqlite3.Connection`` and ``apsw.Connection`` have in common."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Run one statement; gives a cursor."""
        ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement once for every row of parameters."""
        ...


def base_statements() -> list[str]:
    """What makes an empty file a schema 6 file and nothing more."""
    return [statement for statement in schema.statements() if "sessiond_" not in statement]


def build(connection: Connection, messages: int, session_length: int, text: Sequence[str]) -> None:
    """Make the schema in an empty file and store so many messages, indexed.

    The triggers come last: by slice, as here, indexing many messages is several times faster.
    """
    triggers = set(schema.FTS_TRIGGERS.values())
    for statement in base_statements():
        if statement not in triggers:
            connection.execute(statement)
    rows = _stored_rows(messages, session_length, text)
    while part := list(itertools.islice(rows, _STORED_PER_TRANSACTION)):
        _store(connection, part)
    for statement in schema.FTS_TRIGGERS.values():
        connection.execute(statement)


def _stored_rows(
    messages: int, session_length: int, text: Sequence[str]
) -> Iterator[tuple[str, str, str, float]]:
    sessions = prefilled_sessions(messages, session_length)
    texts = itertools.cycle(text)
    for number in range(messages):
        role = "user" if number % 2 == 0 else "assistant"
        yield sessions[number // session_length], role, next(texts), 1.7e9 + number


def _store(connection: Connection, rows: list[tuple[str, str, str, float]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    last = connection.execute(LAST_MESSAGE).fetchall()[0][0]
    first_seen = {session: at for session, _, _, at in reversed(rows)}
    connection.executemany(ADD_SESSION, list(first_seen.items()))
    connection.executemany(
        "INSERT INTO messages (session_id, role, content, timestamp) VALUES (?, ?, ?, ?)", rows
    )
    connection.executemany(
        "UPDATE sessions SET message_count = message_count + 1 WHERE id = ?",
        [(session,) for session, _, _, _ in rows],
    )
    connection.execute(INDEX_AFTER, (last,))
    connection.execute("COMMIT")


class Statements:
    """Runs the statements of one operation on one connection, inside whatever is open there."""

    def __init__(self, connection: Connection, search: str = _SEARCH) -> None:
        self._execute = connection.execute
        self._search = search
        self._by_kind: dict[type, Callable[[Any], None]] = {
            Append: self._append,
            AppendMany: self._append_many,
            AddTokens: self._add_tokens,
            ReadTranscript: self._read_transcript,
            ListSessions: self._list_sessions,
            Search: self._find,
        }

    def run(self, operation: Operation) -> None:
        """Run the operation; rows that it reads are fetched to the last."""
        self._by_kind[type(operation)](operation)

    def _append(self, operation: Append) -> None:
        message = operation.message
        self._insert(message)
        calls = len(message.tool_calls) if message.tool_calls else 0
        self._execute(COUNT_MESSAGES, (1, calls, message.session))

    def _append_many(self, operation: AppendMany) -> None:
        for message in operation.messages:
            self._insert(message)
        calls = sum(len(message.tool_calls or ()) for message in operation.messages)
        self._execute(COUNT_MESSAGES, (len(operation.messages), calls, operation.session))

    def _insert(self, message: Message) -> None:
        self._execute(
            ADD_MESSAGE,
            (
                message.session,
                message.role,
                message.content,
                message.tool_call_id,
                json.dumps(message.tool_calls) if message.tool_calls else None,
                message.tool_name,
                time.time(),
                message.token_count,
                message.finish_reason,
            ),
        )

    def _add_tokens(self, operation: AddTokens) -> None:
        self._execute(
            _ADD_TOKENS,
            (
                operation.input_tokens,
                operation.output_tokens,
                operation.model,
                operation.session,
            ),
        )

    def _read_transcript(self, operation: ReadTranscript) -> None:
        self._execute(_TRANSCRIPT, (operation.session,)).fetchall()

    def _list_sessions(self, _operation: ListSessions) -> None:
        self._execute(_LIST).fetchall()

    def _find(self, operation: Search) -> None:
        self._execute(self._search, (f'"{operation.word}"',)).fetchall()
