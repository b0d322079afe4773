"""Where hits come from: the two indexes in the order of their ranks, and messages one by one.

Every function runs whole statements and asks for ids first, so that nothing large is read for a
hit that is not shown. A list that needs more than it got is asked for from its beginning again,
not continued by offset: ranks may have moved meanwhile, and a hit must not slip through.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.search import cjk
from sessiond_protocol.search.scan import Scan

PAGE: Final = 100
IDS: Final = 500  # in one statement

# Where the hits of messages_fts and what is said of them come from.
SOURCES: Final = "messages AS m LEFT JOIN sessions AS s ON s.id = m.session_id"

# Messages in the pair index are judged by it alone.
UNPAIRED: Final = " AND NOT EXISTS (SELECT 1 FROM sessiond_cjk AS c WHERE c.message_id = m.id)"

# Longer in bytes than in characters; SQLite counts those up to the first NUL.
_NOT_ASCII: Final = " AND length(CAST(m.content AS BLOB)) > length(CAST(m.content AS TEXT))"

_MOST_IDS: Final = 1 << 20


class Filters(msgspec.Struct, frozen=True):
    """What else a hit must satisfy: SQL that starts with ``AND``, and what it binds.

    It names messages ``m`` and sessions ``s``.
    """

    sql: str
    values: tuple[Any, ...]


class Hit(msgspec.Struct, frozen=True):
    """A message that is a hit; ``text`` is its content where it had to be read."""

    id: int
    text: str | None = None


Row: TypeAlias = tuple[Any, ...]


def text_of(content: Any) -> str:
    """A column selected as a blob, as text; bytes that are not UTF-8 become U+FFFD."""
    return "" if content is None else str(content, "utf-8", "replace")


def places(count: int) -> str:
    """``count`` placeholders."""
    return ", ".join("?" * count)


def ranked_words(
    connection: ReadConnection, expression: str, filters: Filters, limit: int, offset: int = 0
) -> list[int]:
    """Ids of messages that ``messages_fts`` alone decides about, best first."""
    rows = connection.execute(
        f"SELECT f.rowid FROM messages_fts AS f CROSS JOIN {SOURCES}"
        f" WHERE f.messages_fts MATCH ? AND m.id = f.rowid{UNPAIRED}{filters.sql}"
        " ORDER BY f.rank LIMIT ? OFFSET ?",
        (expression, *filters.values, limit, offset),
    ).fetchall()
    return [row[0] for row in rows]


def judged(
    connection: ReadConnection,
    index: str,
    expression: str,
    filters: Filters,
    scan: Scan,
    wanted: int,
) -> list[Hit]:
    """The best ``wanted`` messages of an index whose text says what the index only suggests.

    ``index`` is the name of the FTS5 table.
    """
    hits: list[Hit] = []
    seen: set[int] = set()
    most = max(4 * IDS, min(2 * wanted, _MOST_IDS))
    while True:
        ids = _ranked(connection, index, expression, most)
        fresh = [found for found in ids if found not in seen]
        seen.update(fresh)
        for part in _parts(fresh):
            hits += _confirmed(connection, part, filters, scan)
            if len(hits) >= wanted:
                return hits[:wanted]
        if len(ids) < most:
            return hits
        most *= 8


def _ranked(connection: ReadConnection, index: str, expression: str, limit: int) -> list[int]:
    rows = connection.execute(
        f"SELECT rowid FROM {index} WHERE {index} MATCH ? ORDER BY rank LIMIT ?",
        (expression, limit),
    ).fetchall()
    return [row[0] for row in rows]


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """``ids`` in parts that grow: most pages are full after the first."""
    start, size = 0, 32
    while start < len(ids):
        yield ids[start : start + size]
        start, size = start + size, min(2 * size, IDS)


def _confirmed(
    connection: ReadConnection, ids: Sequence[int], filters: Filters, scan: Scan
) -> list[Hit]:
    rows = connection.execute(
        f"SELECT m.id, CAST(m.content AS BLOB) FROM {SOURCES}"
        f" WHERE m.id IN ({places(len(ids))}){filters.sql}",
        (*ids, *filters.values),
    ).fetchall()
    texts = {found: text_of(content) for found, content in rows}
    return [Hit(at, texts[at]) for at in ids if at in texts and scan.matches(texts[at])]


def everything(connection: ReadConnection, filters: Filters, scan: Scan, wanted: int) -> list[Hit]:
    """The newest ``wanted`` hits, found without an index by judging every message."""
    hits: list[Hit] = []
    below = 2**63 - 1
    while len(hits) < wanted:
        rows = connection.execute(
            f"SELECT m.id, CAST(m.content AS BLOB) FROM {SOURCES}"
            f" WHERE m.id < ? AND m.content IS NOT NULL{filters.sql}"
            f" ORDER BY m.id DESC LIMIT {PAGE}",
            (below, *filters.values),
        ).fetchall()
        hits += (
            Hit(found, text) for found, content in rows if scan.matches(text := text_of(content))
        )
        if len(rows) < PAGE:
            break
        below = rows[-1][0]
    return hits[:wanted]


def tail(
    connection: ReadConnection, cursor: int, filters: Filters, scan: Scan
) -> tuple[list[Hit], set[int]]:
    """Messages above ``cursor`` that belong into the pair index and are not in it yet.

    Returns the hits among them, newest first, and the ids of all that were judged here:
    ``messages_fts`` does not decide about those.
    """
    hits: list[Hit] = []
    judged_here: set[int] = set()
    while True:
        rows = connection.execute(
            f"SELECT m.id, CAST(m.content AS BLOB) FROM {SOURCES}"
            f" WHERE m.id > ?{_NOT_ASCII}{UNPAIRED}{filters.sql} ORDER BY m.id LIMIT {PAGE}",
            (cursor, *filters.values),
        ).fetchall()
        for found, content in rows:
            text = text_of(content)
            if cjk.misread(text):
                judged_here.add(found)
                if scan.matches(text):
                    hits.append(Hit(found, text))
        if len(rows) < PAGE:
            return hits[::-1], judged_here
        cursor = rows[-1][0]
