"""The on-disk format as data: schema version 6, and what sessiond adds beside it.

Other programs read and write the same file, so every name here is fixed. Tables and
indexes that only sessiond uses start with ``sessiond_``; other programs ignore them.
"""

from typing import Final

SCHEMA_VERSION: Final = 6

SCHEMA_VERSION_TABLE: Final = "CREATE TABLE schema_version (version INTEGER NOT NULL)"

SESSION_COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("id", "TEXT PRIMARY KEY"),
    ("source", "TEXT NOT NULL"),
    ("user_id", "TEXT"),
    ("model", "TEXT"),
    ("model_config", "TEXT"),
    ("system_prompt", "TEXT"),
    ("parent_session_id", "TEXT"),
    ("started_at", "REAL NOT NULL"),
    ("ended_at", "REAL"),
    ("end_reason", "TEXT"),
    ("message_count", "INTEGER DEFAULT 0"),
    ("tool_call_count", "INTEGER DEFAULT 0"),
    ("input_tokens", "INTEGER DEFAULT 0"),
    ("output_tokens", "INTEGER DEFAULT 0"),
    ("cache_read_tokens", "INTEGER DEFAULT 0"),
    ("cache_write_tokens", "INTEGER DEFAULT 0"),
    ("reasoning_tokens", "INTEGER DEFAULT 0"),
    ("billing_provider", "TEXT"),
    ("billing_base_url", "TEXT"),
    ("billing_mode", "TEXT"),
    ("estimated_cost_usd", "REAL"),
    ("actual_cost_usd", "REAL"),
    ("cost_status", "TEXT"),
    ("cost_source", "TEXT"),
    ("pricing_version", "TEXT"),
    ("title", "TEXT"),
)

MESSAGE_COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("id", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    ("session_id", "TEXT NOT NULL REFERENCES sessions(id)"),
    ("role", "TEXT NOT NULL"),
    ("content", "TEXT"),
    ("tool_call_id", "TEXT"),
    ("tool_calls", "TEXT"),
    ("tool_name", "TEXT"),
    ("timestamp", "REAL NOT NULL"),
    ("token_count", "INTEGER"),
    ("finish_reason", "TEXT"),
    ("reasoning", "TEXT"),
    ("reasoning_details", "TEXT"),
    ("codex_reasoning_items", "TEXT"),
)

SESSION_COLUMN_NAMES: Final = tuple(name for name, _ in SESSION_COLUMNS)
MESSAGE_COLUMN_NAMES: Final = tuple(name for name, _ in MESSAGE_COLUMNS)


def _table(name: str, columns: tuple[tuple[str, str], ...], *constraints: str) -> str:
    lines = [f"{column} {kind}" for column, kind in columns]
    return f"CREATE TABLE {name} (\n    " + ",\n    ".join([*lines, *constraints]) + "\n)"


SESSIONS_TABLE: Final = _table(
    "sessions", SESSION_COLUMNS, "FOREIGN KEY (parent_session_id) REFERENCES sessions(id)"
)
MESSAGES_TABLE: Final = _table("messages", MESSAGE_COLUMNS)

INDEXES: Final[dict[str, str]] = {
    "idx_sessions_source": "CREATE INDEX idx_sessions_source ON sessions(source)",
    "idx_sessions_parent": "CREATE INDEX idx_sessions_parent ON sessions(parent_session_id)",
    "idx_sessions_started": "CREATE INDEX idx_sessions_started ON sessions(started_at DESC)",
    "idx_messages_session": "CREATE INDEX idx_messages_session ON messages(session_id, timestamp)",
    "idx_sessions_title_unique": (
        "CREATE UNIQUE INDEX idx_sessions_title_unique ON sessions(title) WHERE title IS NOT NULL"
    ),
}

FTS_TABLE: Final = (
    "CREATE VIRTUAL TABLE messages_fts USING fts5(content, content=messages, content_rowid=id)"
)

# The delete and update triggers hand FTS5 the OLD content: an external-content index can only
# remove what it is told was there.
FTS_TRIGGERS: Final[dict[str, str]] = {
    "messages_fts_insert": (
        "CREATE TRIGGER messages_fts_insert AFTER INSERT ON messages BEGIN\n"
        "    INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content);\n"
        "END"
    ),
    "messages_fts_delete": (
        "CREATE TRIGGER messages_fts_delete AFTER DELETE ON messages BEGIN\n"
        "    INSERT INTO messages_fts(messages_fts, rowid, content)"
        " VALUES ('delete', old.id, old.content);\n"
        "END"
    ),
    "messages_fts_update": (
        "CREATE TRIGGER messages_fts_update AFTER UPDATE ON messages BEGIN\n"
        "    INSERT INTO messages_fts(messages_fts, rowid, content)"
        " VALUES ('delete', old.id, old.content);\n"
        "    INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content);\n"
        "END"
    ),
}

# What sessiond keeps for itself. None of these tables references a table of the base schema:
# another program that enforces foreign keys must be able to delete its rows.
SIDE_TABLES: Final[dict[str, str]] = {
    # One row. `generation`: 16 random bytes, new whenever the file's history changed behind the
    # clients. `commits` rises in every transaction, `starts` at every start of a daemon.
    # `index_state`: '' (healthy), or why search is degraded. `rebuild_cursor`: the last message
    # id in sessiond_fts_next while a sliced rebuild runs. `cjk_cursor`: the last message id that
    # was looked at for the pair index and for sessiond_disorder.
    "sessiond_meta": (
        "CREATE TABLE sessiond_meta (\n"
        "    id INTEGER PRIMARY KEY CHECK (id = 1),\n"
        "    generation BLOB NOT NULL,\n"
        "    commits INTEGER NOT NULL DEFAULT 0,\n"
        "    starts INTEGER NOT NULL DEFAULT 0,\n"
        "    index_state TEXT NOT NULL DEFAULT '',\n"
        "    rebuild_cursor INTEGER,\n"
        "    cjk_cursor INTEGER NOT NULL DEFAULT 0\n"
        ")"
    ),
    "sessiond_clients": (
        "CREATE TABLE sessiond_clients (\n"
        "    client BLOB PRIMARY KEY,\n"
        "    last INTEGER NOT NULL,\n"
        "    floor INTEGER NOT NULL,\n"
        "    last_seen REAL NOT NULL,\n"
        "    name TEXT\n"
        ") WITHOUT ROWID"
    ),
    "sessiond_receipts": (
        "CREATE TABLE sessiond_receipts (\n"
        "    client BLOB NOT NULL,\n"
        "    last_seq INTEGER NOT NULL,\n"
        "    first_seq INTEGER NOT NULL,\n"
        "    answers BLOB NOT NULL,\n"
        "    PRIMARY KEY (client, last_seq)\n"
        ") WITHOUT ROWID"
    ),
    # `value` is the JSON of structured content, valid while `text_hash` matches messages.content.
    "sessiond_content": (
        "CREATE TABLE sessiond_content (\n"
        "    message_id INTEGER PRIMARY KEY,\n"
        "    value TEXT NOT NULL,\n"
        "    text_hash BLOB NOT NULL\n"
        ")"
    ),
    "sessiond_message_keys": (
        "CREATE TABLE sessiond_message_keys (\n"
        "    session_id TEXT NOT NULL,\n"
        "    key TEXT NOT NULL,\n"
        "    message_id INTEGER NOT NULL,\n"
        "    PRIMARY KEY (session_id, key)\n"
        ") WITHOUT ROWID"
    ),
    # The whole text of messages with Chinese, Japanese or Korean text, runs as character pairs.
    "sessiond_cjk": (
        "CREATE TABLE sessiond_cjk (message_id INTEGER PRIMARY KEY, pairs TEXT NOT NULL)"
    ),
    "sessiond_cjk_fts": (
        "CREATE VIRTUAL TABLE sessiond_cjk_fts USING fts5"
        "(pairs, content=sessiond_cjk, content_rowid=message_id)"
    ),
    # What a gateway's session key points at now; `version` is for compare-and-swap.
    "sessiond_routes": (
        "CREATE TABLE sessiond_routes (\n"
        "    session_key TEXT PRIMARY KEY,\n"
        "    session_id TEXT NOT NULL,\n"
        "    version INTEGER NOT NULL,\n"
        "    updated_at REAL NOT NULL,\n"
        "    entry TEXT NOT NULL\n"
        ") WITHOUT ROWID"
    ),
    # Sessions whose transcript is the database's alone: a gateway's file counts no more.
    "sessiond_transcripts": (
        "CREATE TABLE sessiond_transcripts (session_id TEXT PRIMARY KEY) WITHOUT ROWID"
    ),
    # Sessions in which the order of time is not that of the ids: a clock went back, or somebody
    # gave old times. In every other one, up to `cjk_cursor`, idx_messages_session is in the order
    # of ids, too, so that no index of our own is needed for it.
    "sessiond_disorder": (
        "CREATE TABLE sessiond_disorder (session_id TEXT PRIMARY KEY) WITHOUT ROWID"
    ),
}

SIDE_INDEXES: Final[dict[str, str]] = {
    # Lists and exports of one source, newest first.
    "sessiond_sessions_recent": (
        "CREATE INDEX sessiond_sessions_recent ON sessions(source, started_at)"
    ),
    "sessiond_keys_message": (
        "CREATE INDEX sessiond_keys_message ON sessiond_message_keys(message_id)"
    ),
}

# What earlier versions of sessiond kept and this one removes.
FORMER_INDEXES: Final = ("sessiond_messages_order",)

# The index a sliced rebuild fills before it takes the place of messages_fts.
FTS_NEXT_TABLE: Final = (
    "CREATE VIRTUAL TABLE sessiond_fts_next USING fts5(content, content=messages, content_rowid=id)"
)


def statements() -> tuple[str, ...]:
    """Every statement that makes an empty file a schema 6 file with sessiond's side tables."""
    return (
        SCHEMA_VERSION_TABLE,
        SESSIONS_TABLE,
        MESSAGES_TABLE,
        *INDEXES.values(),
        FTS_TABLE,
        *FTS_TRIGGERS.values(),
        *SIDE_TABLES.values(),
        *SIDE_INDEXES.values(),
        f"INSERT INTO schema_version (version) VALUES ({SCHEMA_VERSION})",
    )
