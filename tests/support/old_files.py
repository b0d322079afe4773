"""Session databases as other programs left them: versions 1 to 6, and a newer layout.

The shapes stand here a second time, written out, so that a slip in the daemon's own table of
migrations shows. Made with apsw only: a test that opens one of these files must not open it with
the standard library's sqlite3 too.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any, Final

import apsw

Row = tuple[Any, ...]
Session = tuple[str, str | None, float]

_SESSIONS_V1: Final = (
    "id TEXT PRIMARY KEY, source TEXT NOT NULL, user_id TEXT, model TEXT, model_config TEXT,"
    " system_prompt TEXT, parent_session_id TEXT, started_at REAL NOT NULL, ended_at REAL,"
    " end_reason TEXT, message_count INTEGER DEFAULT 0, tool_call_count INTEGER DEFAULT 0,"
    " input_tokens INTEGER DEFAULT 0, output_tokens INTEGER DEFAULT 0"
)
_COSTS: Final = (
    ", cache_read_tokens INTEGER DEFAULT 0, cache_write_tokens INTEGER DEFAULT 0,"
    " reasoning_tokens INTEGER DEFAULT 0, billing_provider TEXT, billing_base_url TEXT,"
    " billing_mode TEXT, estimated_cost_usd REAL, actual_cost_usd REAL, cost_status TEXT,"
    " cost_source TEXT, pricing_version TEXT"
)
_PARENT: Final = ", FOREIGN KEY (parent_session_id) REFERENCES sessions(id)"
_MESSAGES_V1: Final = (
    "id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL REFERENCES sessions(id),"
    " role TEXT NOT NULL, content TEXT, tool_call_id TEXT, tool_calls TEXT, tool_name TEXT,"
    " timestamp REAL NOT NULL, token_count INTEGER"
)
_REASONING: Final = ", reasoning TEXT, reasoning_details TEXT, codex_reasoning_items TEXT"

_INDEXES: Final = (
    "CREATE INDEX IF NOT EXISTS idx_sessions_source ON sessions(source)",
    "CREATE INDEX IF NOT EXISTS idx_sessions_parent ON sessions(parent_session_id)",
    "CREATE INDEX IF NOT EXISTS idx_sessions_started ON sessions(started_at DESC)",
    "CREATE INDEX IF NOT EXISTS idx_messages_session ON messages(session_id, timestamp)",
)
_TITLE_INDEX: Final = (
    "CREATE UNIQUE INDEX IF NOT EXISTS idx_sessions_title_unique"
    " ON sessions(title) WHERE title IS NOT NULL"
)

# Laid out otherwise than the daemon writes it, with the same meaning.
FTS_STATEMENTS: Final = (
    """CREATE VIRTUAL TABLE IF NOT EXISTS messages_fts USING fts5(
        content,
        content=messages,
        content_rowid=id
    )""",
    """CREATE TRIGGER IF NOT EXISTS messages_fts_insert AFTER INSERT ON messages BEGIN
        INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content);
    END;""",
    """CREATE TRIGGER IF NOT EXISTS messages_fts_delete AFTER DELETE ON messages BEGIN
        INSERT INTO messages_fts(messages_fts, rowid, content)
        VALUES('delete', old.id, old.content);
    END;""",
    """CREATE TRIGGER IF NOT EXISTS messages_fts_update AFTER UPDATE ON messages BEGIN
        INSERT INTO messages_fts(messages_fts, rowid, content)
        VALUES('delete', old.id, old.content);
        INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content);
    END;""",
)

SESSIONS: Final[tuple[Session, ...]] = (
    ("root", "Planning", 1_000.0),
    ("child", "Planning the second", 2_000.0),
    ("untitled", None, 3_000.0),
)
MESSAGES: Final[tuple[tuple[str, str, str | None], ...]] = (
    ("root", "user", "how do I plan a garden"),
    ("root", "assistant", "start with the soil"),
    ("root", "assistant", None),
    ("child", "user", "请安装Docker然后"),
    ("child", "tool", ""),
)


def make(
    path: str | os.PathLike[str],
    version: int,
    *,
    sessions: Sequence[Session] = SESSIONS,
    messages: Iterable[tuple[str, str, str | None]] = MESSAGES,
    fts: bool = True,
    wal: bool = True,
) -> None:
    """Write a file of a published version, with data.

    ``sessions`` are (id, title, started_at); titles are left out where the version has none.
    Without ``fts`` there is neither the search table nor a trigger.
    """
    connection = apsw.Connection(os.fspath(path))
    try:
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}").fetchall()
        with connection:
            for statement in _statements(version, fts):
                connection.execute(statement)
            _fill(connection, version >= 3, sessions, messages)
    finally:
        connection.close()


def _statements(version: int, fts: bool) -> Iterable[str]:
    yield "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"
    yield f"INSERT INTO schema_version (version) VALUES ({version})"
    title = ", title TEXT" if version >= 3 else ""
    costs = _COSTS if version >= 5 else ""
    yield f"CREATE TABLE IF NOT EXISTS sessions ({_SESSIONS_V1}{costs}{title}{_PARENT})"
    finish = ", finish_reason TEXT" if version >= 2 else ""
    reasoning = _REASONING if version >= 6 else ""
    yield f"CREATE TABLE IF NOT EXISTS messages ({_MESSAGES_V1}{finish}{reasoning})"
    yield from _INDEXES
    if version >= 4:
        yield _TITLE_INDEX
    if fts:
        yield from FTS_STATEMENTS


def _fill(
    connection: apsw.Connection,
    titles: bool,
    sessions: Sequence[Session],
    messages: Iterable[tuple[str, str, str | None]],
) -> None:
    for name, title, started in sessions:
        connection.execute(
            "INSERT INTO sessions (id, source, model_config, started_at, parent_session_id)"
            " VALUES (?, 'cli', '{\"effort\": \"high\"}', ?, ?)",
            (name, started, "root" if name == "child" else None),
        )
        if titles:
            connection.execute("UPDATE sessions SET title = ? WHERE id = ?", (title, name))
    for number, (session, role, content) in enumerate(messages):
        connection.execute(
            "INSERT INTO messages (session_id, role, content, timestamp) VALUES (?, ?, ?, ?)",
            (session, role, content, 1_000.0 + number),
        )


# --- a newer layout ----------------------------------------------------------------------------

NEWER_VERSION: Final = 11
_INLINE: Final = (
    "COALESCE(new.content, '') || ' ' || COALESCE(new.tool_name, '') || ' '"
    " || COALESCE(new.tool_calls, '')"
)


def newer_index(name: str, options: str = "") -> tuple[str, ...]:
    """A search table that keeps its text itself, and its three triggers."""
    insert = f"INSERT INTO {name}(rowid, content) VALUES (new.id, {_INLINE})"
    delete = f"DELETE FROM {name} WHERE rowid = old.id"
    return (
        f"CREATE VIRTUAL TABLE {name} USING fts5(content{options})",
        f"CREATE TRIGGER {name}_insert AFTER INSERT ON messages BEGIN {insert}; END",
        f"CREATE TRIGGER {name}_delete AFTER DELETE ON messages BEGIN {delete}; END",
        f"CREATE TRIGGER {name}_update AFTER UPDATE ON messages BEGIN {delete}; {insert}; END",
    )


def migrate_like_a_newer_program(connection: apsw.Connection) -> None:
    """What another program's update does to a version 6 file, one transaction per statement."""
    for statement in (
        "DROP TRIGGER IF EXISTS messages_fts_insert",
        "DROP TRIGGER IF EXISTS messages_fts_delete",
        "DROP TRIGGER IF EXISTS messages_fts_update",
        "DROP TABLE IF EXISTS messages_fts",
        "ALTER TABLE sessions ADD COLUMN archived INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE messages ADD COLUMN active INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE messages ADD COLUMN platform_message_id TEXT",
        "CREATE TABLE state_meta (key TEXT PRIMARY KEY, value TEXT)",
        "CREATE INDEX idx_messages_session_active ON messages(session_id, active, timestamp)",
        *newer_index("messages_fts"),
        *newer_index("messages_fts_trigram", ", tokenize='trigram'"),
        *(
            f"INSERT INTO {name}(rowid, content) SELECT id, {_INLINE.replace('new.', '')}"
            " FROM messages"
            for name in ("messages_fts", "messages_fts_trigram")
        ),
        f"UPDATE schema_version SET version = {NEWER_VERSION}",
    ):
        connection.execute(statement)


def make_newer(path: str | os.PathLike[str]) -> None:
    """Write a file of a version the daemon does not know, with one rewound message."""
    make(path, 6)
    connection = apsw.Connection(os.fspath(path))
    try:
        migrate_like_a_newer_program(connection)
        connection.execute("UPDATE messages SET active = 0 WHERE id = 2")
    finally:
        connection.close()


# --- looking at a file -------------------------------------------------------------------------


def contents(connection: apsw.Connection) -> dict[str, list[dict[str, Any]]]:
    """Every row of both base tables as dicts, by column name."""
    return {
        table: _dicts(connection, table, f"SELECT * FROM {table} ORDER BY rowid")
        for table in ("sessions", "messages")
    }


def _dicts(connection: apsw.Connection, table: str, sql: str) -> list[dict[str, Any]]:
    columns = connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
    names = [str(name) for (name,) in columns]
    return [dict(zip(names, row, strict=True)) for row in connection.execute(sql)]


def schema_rows(connection: apsw.Connection) -> list[Row]:
    """All of ``sqlite_schema``."""
    return connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
    ).fetchall()
