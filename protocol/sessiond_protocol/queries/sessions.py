"""Reading sessions: by id, by prefix, by title, and lists with the newest first.

Rows are raw: every column of ``sessions`` as stored. "Newest" is by ``started_at``; of several
sessions that started at one instant, the one stored last comes first.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sessiond_protocol.content import INLINE_JSON, content_text
from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.queries.facts import Facts
from sessiond_protocol.queries.messages import shown
from sessiond_protocol.queries.order import by_session, follows_time
from sessiond_protocol.queries.statement import (
    Condition,
    dicts,
    listed,
    page_bounds,
    value,
    where,
)
from sessiond_protocol.rows import decode_content
from sessiond_protocol.schema import SESSION_COLUMN_NAMES
from sessiond_protocol.titles import MAX_NUMBER_DIGITS, numbered, split_number

PREVIEW_LENGTH: Final = 60

Row = dict[str, Any]

_COLUMNS: Final = ", ".join(SESSION_COLUMN_NAMES)
_QUALIFIED: Final = ", ".join(f"s.{name}" for name in SESSION_COLUMN_NAMES)
_RICH_NAMES: Final = (*SESSION_COLUMN_NAMES, "preview", "last_active")

# What str.strip() takes away.
_WHITESPACE: Final = "".join(filter(str.isspace, map(chr, range(0x3001))))
# The longest UTF-8 of the characters that decide a preview: one more than it shows.
_PREVIEW_BYTES: Final = 4 * (PREVIEW_LENGTH + 1)
_LINE_BREAK: Final = re.compile("[\r\n]")


def get(connection: ReadConnection, facts: Facts, session_id: str) -> Row | None:
    """The session of this id."""
    return _one(connection, "id = ?", session_id)


def _one(connection: ReadConnection, condition: str, parameter: str) -> Row | None:
    sql = f"SELECT {_COLUMNS} FROM sessions WHERE {condition}"
    rows = dicts(connection.execute(sql, (parameter,)).fetchall(), SESSION_COLUMN_NAMES)
    return rows[0] if rows else None


def resolve(connection: ReadConnection, facts: Facts, session_id_or_prefix: str) -> str | None:
    """The full id: an exact match, or the only id that starts with a non-empty prefix.

    Case-sensitive, every character literal.
    """
    if not session_id_or_prefix:
        return None
    # Ids with a prefix lie side by side in the order of bytes, right after the prefix itself.
    sql = "SELECT id FROM sessions WHERE id >= ? ORDER BY id LIMIT 2"
    found = [row[0] for row in connection.execute(sql, (session_id_or_prefix,)).fetchall()]
    if session_id_or_prefix in found:
        return session_id_or_prefix
    # An id stored as a blob sorts behind every text.
    matching = [i for i in found if isinstance(i, str) and i.startswith(session_id_or_prefix)]
    return matching[0] if len(matching) == 1 else None


def count(connection: ReadConnection, facts: Facts, source: str | None = None) -> int:
    """Stored sessions, of one source or of all."""
    clause, parameters = where(_filters(source))
    stored: int = value(connection, f"SELECT COUNT(*) FROM sessions{clause}", parameters)
    return stored


def _filters(source: str | None, exclude_sources: Sequence[str] | None = None) -> list[Condition]:
    conditions: list[Condition] = []
    if source is not None:
        conditions.append(("source = ?", [source]))
    if exclude_sources:
        conditions.append(listed("source", exclude_sources, "exclude_sources", negated=True))
    return conditions


def newest(
    connection: ReadConnection,
    facts: Facts,
    source: str | None = None,
    limit: int = 20,
    offset: int = 0,
) -> list[Row]:
    """Sessions, the newest first."""
    clause, parameters = where(_filters(source))
    sql = _placed(_QUALIFIED, clause)
    rows = connection.execute(sql, (*parameters, *page_bounds(limit, offset))).fetchall()
    return dicts(rows, SESSION_COLUMN_NAMES)


def rich(
    connection: ReadConnection,
    facts: Facts,
    source: str | None = None,
    exclude_sources: Sequence[str] | None = None,
    limit: int = 20,
    offset: int = 0,
) -> list[Row]:
    """Sessions, the newest first, each with ``preview`` and ``last_active``.

    ``preview``: the first user message with content, line breaks as spaces, stripped, cut at 60
    characters with ``...``; ``""`` without one. ``last_active``: time of the message with the
    highest id, else ``started_at``.
    """
    clause, parameters = where(_filters(source, exclude_sources))
    sql = _placed(_rich_columns(facts), clause)
    bounds = page_bounds(limit, offset)
    rows = connection.execute(sql, (_WHITESPACE, _WHITESPACE, *parameters, *bounds)).fetchall()
    sessions = dicts(rows, _RICH_NAMES)
    for session in sessions:
        session["preview"] = _preview(session["preview"])
    return sessions


def _placed(columns: str, clause: str) -> str:
    """One page of ``sessions AS s``, the newest first.

    The page is cut from idx_sessions_started before any row is read, so that neither skipped
    rows nor ties cost a look at the table or at messages.
    """
    return (
        f"SELECT {columns} FROM"
        f" (SELECT rowid AS place FROM sessions{clause}"
        " ORDER BY started_at DESC, rowid DESC LIMIT ? OFFSET ?) AS p"
        " CROSS JOIN sessions AS s ON s.rowid = p.place"
        " ORDER BY s.started_at DESC, s.rowid DESC"
    )


@lru_cache(maxsize=16)
def _rich_columns(facts: Facts) -> str:
    """Columns of a rich row; ``preview`` as the stripped text's first bytes.

    Bytes, because SQLite's text functions end at a NUL. A structure stored in the column itself
    comes whole: only decoding finds its text.
    """
    inline = INLINE_JSON.encode().hex()
    its = f"FROM {by_session(facts, 'm')} WHERE m.session_id = s.id{shown(facts)}"
    preview = f"""SELECT CASE substr(CAST(m.content AS BLOB), 1, {len(INLINE_JSON)})
    WHEN X'{inline}' THEN m.content
    ELSE substr(CAST(trim(m.content, ?) AS BLOB), 1, {_PREVIEW_BYTES}) END
 {its} AND m.role = 'user' AND m.content <> ''"""
    last = f"SELECT m.timestamp {its}"
    return f"""{_QUALIFIED},
CASE WHEN {follows_time(facts, "s.id")}
 THEN ({preview} ORDER BY m.timestamp, m.id LIMIT 1)
 ELSE ({preview} ORDER BY m.id LIMIT 1) END,
COALESCE(
CASE WHEN {follows_time(facts, "s.id")}
 THEN ({last} ORDER BY m.timestamp DESC LIMIT 1)
 ELSE ({last} ORDER BY m.id DESC LIMIT 1) END, s.started_at)"""


def _preview(stored: str | bytes | None) -> str:
    if stored is None:
        return ""
    if isinstance(stored, bytes):
        # The cut may have split the last character, which is beyond the preview then.
        text = stored.decode(errors="ignore")
    else:
        content = decode_content(stored, None, None)
        text = (content if isinstance(content, str) else content_text(content)).strip()
    text = _LINE_BREAK.sub(" ", text)
    return text if len(text) <= PREVIEW_LENGTH else text[:PREVIEW_LENGTH] + "..."


def page(
    connection: ReadConnection,
    facts: Facts,
    source: str | None = None,
    after: tuple[float, str] | None = None,
    limit: int | None = None,
) -> list[Row]:
    """Sessions by ``(started_at, id)``, the newest first, strictly behind ``after``.

    ``after`` is that pair of the last row of the page before: paging this way meets no row
    twice and costs the same on every page.
    """
    conditions = _filters(source)
    if after is not None:
        conditions.append(("(started_at, id) < (?, ?)", list(after)))
    clause, parameters = where(conditions)
    sql = f"SELECT {_COLUMNS} FROM sessions{clause} ORDER BY started_at DESC, id DESC LIMIT ?"
    rows = connection.execute(sql, (*parameters, page_bounds(limit)[0])).fetchall()
    return dicts(rows, SESSION_COLUMN_NAMES)


def prunable(
    connection: ReadConnection, facts: Facts, before: float, source: str | None = None
) -> int:
    """How many sessions have ended and started before ``before`` (Unix seconds)."""
    conditions: list[Condition] = [("ended_at IS NOT NULL AND started_at < ?", [before])]
    clause, parameters = where(conditions + _filters(source))
    found: int = value(connection, f"SELECT COUNT(*) FROM sessions{clause}", parameters)
    return found


def title(connection: ReadConnection, facts: Facts, session_id: str) -> str | None:
    """The session's title; ``None`` too when there is no such session."""
    stored: str | None = value(connection, "SELECT title FROM sessions WHERE id = ?", (session_id,))
    return stored


def by_title(connection: ReadConnection, facts: Facts, title: str) -> Row | None:
    """The session with exactly this title."""
    return _one(connection, "title = ?", title)


# At most two rows: the session with the title itself, and its continuation with the highest
# number. Titles that start with "title #" lie between "title #" and "title $".
_LINEAGE: Final = f"""
SELECT id, title, 0 FROM sessions WHERE title = ?
UNION ALL
SELECT * FROM (
    SELECT id, title, CAST(substr(title, b.digits) AS INTEGER) AS number
    FROM (SELECT ? AS lower, ? AS upper, ? AS digits) AS b
    CROSS JOIN sessions ON title > b.lower AND title < b.upper
    WHERE length(title) < b.digits + {MAX_NUMBER_DIGITS}
    AND substr(title, b.digits) NOT GLOB '*[^0-9]*'
    ORDER BY number DESC, title LIMIT 1)
"""


def _lineage(connection: ReadConnection, base: str) -> tuple[str | None, tuple[str, int] | None]:
    """``(id of the unnumbered one, (id, number) of the highest continuation)``."""
    parameters = (base, f"{base} #", f"{base} $", len(base) + 3)
    exact: str | None = None
    continuation: tuple[str, int] | None = None
    for session_id, stored, number in connection.execute(_LINEAGE, parameters).fetchall():
        if stored == base:
            exact = session_id
        else:
            continuation = session_id, number
    return exact, continuation


def resolve_title(connection: ReadConnection, facts: Facts, title: str) -> str | None:
    """The id of the highest ``title #<number>``, else of the session with exactly this title."""
    exact, continuation = _lineage(connection, title)
    return continuation[0] if continuation else exact


def _highest(connection: ReadConnection, base: str) -> int:
    """The highest number in a lineage, 1 for the unnumbered one alone, 0 for none."""
    exact, continuation = _lineage(connection, base)
    return max(1 if exact is not None else 0, continuation[1] if continuation else 0)


def next_title(connection: ReadConnection, facts: Facts, base_title: str) -> str:
    """The next free title of the lineage that ``base_title``, numbered or not, belongs to.

    A base too long for its number is cut, and then belongs to a lineage of its own, whose
    numbers count too: this alone takes a further statement.
    """
    base, _ = split_number(base_title)
    highest = _highest(connection, base)
    while True:
        candidate, stem = numbered(base, highest + 1)
        taken = highest if stem == base else _highest(connection, stem)
        if taken <= highest:
            return candidate
        highest = taken
