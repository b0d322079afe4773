"""What a reader must know of a file's schema before it can ask: facts, judged once.

A file may come from an older or newer program, and a direct reader may meet one that no daemon
has opened yet. The facts hold until ``PRAGMA schema_version`` changes.
"""

from typing import Any

import msgspec

from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.queries.statement import value
from sessiond_protocol.schema import FORMER_INDEXES, MESSAGE_COLUMN_NAMES, SESSION_COLUMN_NAMES

# One statement, so that every answer is about one moment: reading sqlite_master opens the
# snapshot that the pragma functions then share.
_INSPECTION = """
SELECT type, name FROM sqlite_master
UNION ALL SELECT 'sessions', name FROM pragma_table_info('sessions')
UNION ALL SELECT 'messages', name FROM pragma_table_info('messages')
UNION ALL SELECT 'cookie', schema_version FROM pragma_schema_version
UNION ALL SELECT 'by session', c.seqno || ' ' || c.name
    FROM pragma_index_list('messages') AS i, pragma_index_info(i.name) AS c
    WHERE i.name = 'idx_messages_session' AND NOT i.partial
"""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the queries depend on in one file.

    ``cookie``: SQLite's schema counter, the key under which the rest may be kept.
    ``version``: the schema version the file states, ``None`` without one.
    ``missing``: columns of schema 6 it lacks, as ``table.column``; the queries need them all.
    ``active``: ``messages.active`` exists: rows with 0 were rewound by a newer program.
    ``content``, ``meta``, ``disorder``: the tables ``sessiond_content``, ``sessiond_meta``,
    ``sessiond_disorder`` exist, the last one kept by whoever serves the file: an earlier version
    of sessiond leaves it as it is. ``by_session``: the index ``idx_messages_session`` is there
    and is what schema 6 says.
    ``tables``: the names of all tables, for whoever needs another one.
    """

    cookie: int
    version: int | None
    missing: tuple[str, ...]
    active: bool
    content: bool
    meta: bool
    disorder: bool
    by_session: bool
    tables: frozenset[str]


def schema_cookie(connection: ReadConnection) -> int:
    """SQLite's schema counter: facts with another ``cookie`` are out of date."""
    cookie: int = value(connection, "PRAGMA schema_version")
    return cookie


def read_facts(connection: ReadConnection) -> Facts:
    """The facts of the file behind ``connection``; an empty file has them too."""
    found: dict[str, set[Any]] = {}
    for kind, name in connection.execute(_INSPECTION).fetchall():
        found.setdefault(kind, set()).add(name)
    tables = found.get("table", set())
    version = None
    if "schema_version" in tables:
        version = value(connection, "SELECT MAX(version) FROM schema_version")
    return Facts(
        cookie=found["cookie"].pop(),
        version=version,
        missing=(
            *_missing("sessions", SESSION_COLUMN_NAMES, found),
            *_missing("messages", MESSAGE_COLUMN_NAMES, found),
        ),
        active="active" in found.get("messages", set()),
        content="sessiond_content" in tables,
        meta="sessiond_meta" in tables,
        disorder="sessiond_disorder" in tables
        and found.get("index", set()).isdisjoint(FORMER_INDEXES),
        by_session=found.get("by session", set()) == {"0 session_id", "1 timestamp"},
        tables=frozenset(tables),
    )


def _missing(table: str, names: tuple[str, ...], found: dict[str, set[Any]]) -> list[str]:
    present = found.get(table, set())
    return [f"{table}.{name}" for name in names if name not in present]


def change_counter(connection: ReadConnection, facts: Facts) -> list[Any]:
    """``[generation, commits]`` of the file: 16 bytes (none before a daemon saw it), a count."""
    if not facts.meta:
        return [b"", 0]
    sql = "SELECT generation, commits FROM sessiond_meta WHERE id = 1"
    rows = connection.execute(sql).fetchall()
    return list(rows[0]) if rows else [b"", 0]
