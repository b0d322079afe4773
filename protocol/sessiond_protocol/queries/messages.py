"""Reading messages: transcripts in pages, counts. Always in the order of ``id``.

Ids rise in commit order and the messages of one client get them in the order of its calls;
ordering by time would tear tool calls from their results when a clock steps back.

Rows are raw: every column of ``messages`` as stored, then ``content_value`` and
``content_hash`` (``None`` without structured content). :mod:`sessiond_protocol.rows` decodes
them.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import islice
from typing import Any, Final

from sessiond_protocol.content import check_integer
from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.queries.facts import Facts
from sessiond_protocol.queries.order import BEFORE_ALL, by_session, follows_time
from sessiond_protocol.queries.statement import Condition, dicts, page_bounds, value, where
from sessiond_protocol.schema import MESSAGE_COLUMN_NAMES

RAW_NAMES: Final = (*MESSAGE_COLUMN_NAMES, "content_value", "content_hash")

# What one answer may hold, about; and how many rows are read before the next look at their size.
MOST_BYTES: Final = 8 * 1024 * 1024
_MOST_ROWS: Final = 2**62
_FIRST_ROWS: Final = 8
_FURTHER_ROWS: Final = 64
_LARGE: Final = tuple(
    RAW_NAMES.index(name)
    for name in (
        "content", "tool_calls", "reasoning", "reasoning_details", "codex_reasoning_items",
        "content_value",
    )
)  # fmt: skip

Row = dict[str, Any]


@cache
def _select(table: str, *, content: bool) -> str:
    columns = ", ".join(f"m.{name}" for name in MESSAGE_COLUMN_NAMES)
    if not content:
        return f"SELECT {columns}, NULL, NULL FROM {table}"
    return (
        f"SELECT {columns}, c.value, c.text_hash FROM {table}"
        " LEFT JOIN sessiond_content AS c ON c.message_id = m.id"
    )


def shown(facts: Facts, alias: str = "m") -> str:
    """The condition that leaves out rewound messages, as ``AND …``, or nothing."""
    return f" AND {alias}.active IS NOT 0" if facts.active else ""


def page(
    connection: ReadConnection,
    facts: Facts,
    session_id: str,
    after_id: int = 0,
    limit: int | None = None,
    offset: int = 0,
) -> list[Row]:
    """Messages of a session with an id above ``after_id``, rewound ones included.

    The cost of a page grows with the messages that follow, of which only ids are read. Those
    before ``after_id`` cost nothing if that is a message of the session.
    """
    return _page(connection, facts, session_id, after_id, page_bounds(limit, offset), "")


def conversation(
    connection: ReadConnection,
    facts: Facts,
    session_id: str,
    after_id: int = 0,
    limit: int | None = None,
    offset: int = 0,
) -> list[Row]:
    """As :func:`page`, without the messages that were rewound."""
    bounds = page_bounds(limit, offset)
    return _page(connection, facts, session_id, after_id, bounds, shown(facts))


def _page(
    connection: ReadConnection,
    facts: Facts,
    session_id: str,
    after_id: int,
    bounds: tuple[int, int],
    condition: str,
) -> list[Row]:
    rows = connection.execute(
        _page_sql(facts, condition), (session_id, check_integer(after_id, "after_id"), *bounds)
    )
    return dicts(rows.fetchall(), RAW_NAMES)


@lru_cache(maxsize=16)
def _page_sql(facts: Facts, condition: str) -> str:
    passed = (
        "SELECT x.timestamp FROM messages AS x WHERE x.id = p.after AND x.session_id = p.session"
    )
    return _of_ids(
        facts,
        f"WITH p (session, after) AS (SELECT ?, ?) SELECT m.id FROM p CROSS JOIN"
        f" {by_session(facts, 'm')} WHERE m.session_id = p.session AND m.id > p.after"
        f" AND m.timestamp >= coalesce(CASE WHEN {follows_time(facts, 'p.session')}"
        f" THEN ({passed}) END, {BEFORE_ALL}){condition}",
        "",
    )


def _of_ids(facts: Facts, ids: str, direction: str) -> str:
    """Rows of a page of these ids, in their order.

    Ids come from an index and are sorted alone. Joined crosswise, so that with statistics from a
    time when the file was small SQLite does not look through all messages for them.
    """
    page = f"({ids} ORDER BY m.id{direction} LIMIT ? OFFSET ?)"
    source = f"{page} AS page CROSS JOIN messages AS m ON m.id = page.id"
    return f"{_select(source, content=facts.content)} ORDER BY page.id{direction}"


def bounded_page(
    connection: ReadConnection,
    facts: Facts,
    session_id: str,
    after_id: int,
    limit: int,
    offset: int,
    *,
    active_only: bool,
    most_bytes: int = MOST_BYTES,
) -> tuple[list[Row], bool]:
    """As :func:`page` or :func:`conversation`, and whether more messages follow.

    A page ends early once its texts have about ``most_bytes``: whoever answers with it must hold
    it in memory. All of it is of one snapshot. It has at least one message, if there is any.
    """
    sql = _page_sql(facts, shown(facts) if active_only else "")
    after = check_integer(after_id, "after_id")
    bounds = page_bounds(min(limit, _MOST_ROWS) + 1, offset)
    cursor = connection.execute(sql, (session_id, after, *bounds))
    try:
        rows, ended = _until(iter(cursor), limit + 1, most_bytes)
    finally:
        cursor.close()
    more = len(rows) > limit or not ended
    return dicts(rows[:limit], RAW_NAMES), more


def _until(rows: Iterator[Any], limit: int, most_bytes: int) -> tuple[list[Any], bool]:
    """Rows up to either bound, and whether these are all. The first look comes soon."""
    found: list[Any] = []
    size, step = 0, _FIRST_ROWS
    while size < most_bytes:
        some = list(islice(rows, step))
        found += some
        if len(some) < step or len(found) >= limit:
            return found, True
        size += sum(len(row[place]) for place in _LARGE for row in some if row[place])
        step = _FURTHER_ROWS
    return found, next(rows, None) is None


def tail(
    connection: ReadConnection,
    facts: Facts,
    session_id: str | None,
    limit: int,
    before_id: int | None = None,
) -> list[Row]:
    """The last ``limit`` messages of a session, or of all with ``None``, oldest first.

    With ``before_id``: of those with lower ids.
    """
    conditions: list[Condition] = []
    source = "messages AS m"
    if session_id is not None:
        source = by_session(facts, "m")
        conditions.append(("m.session_id = ?", [session_id]))
    if before_id is not None:
        conditions.append(("m.id < ?", [check_integer(before_id, "before_id")]))
    clause, parameters = where(conditions)
    sql = _of_ids(facts, f"SELECT m.id FROM {source}{clause}", " DESC")
    rows = connection.execute(sql, (*parameters, *page_bounds(limit))).fetchall()
    return dicts(reversed(rows), RAW_NAMES)


def committed(
    connection: ReadConnection,
    facts: Facts,
    after_id: int,
    up_to: int | None = None,
    limit: int | None = None,
    session_id: str | None = None,
) -> list[Row]:
    """Messages of every session, or of one, with ``after_id < id <= up_to``, in commit order.

    All sessions' messages in that range are read.
    """
    conditions = "m.id > ?"
    parameters: list[int | str] = [check_integer(after_id, "after_id")]
    if up_to is not None:
        conditions += " AND m.id <= ?"
        parameters.append(check_integer(up_to, "up_to"))
    if session_id is not None:
        conditions += " AND +m.session_id = ?"  # the sign keeps the index out of it
        parameters.append(session_id)
    select = _select("messages AS m", content=facts.content)
    sql = f"{select} WHERE {conditions} ORDER BY m.id LIMIT ? OFFSET ?"
    rows = connection.execute(sql, (*parameters, *page_bounds(limit))).fetchall()
    return dicts(rows, RAW_NAMES)


def last_id(connection: ReadConnection, facts: Facts) -> int:
    """The highest message id, 0 when there is none."""
    highest: int | None = value(connection, "SELECT MAX(id) FROM messages")
    return highest or 0


def count(connection: ReadConnection, facts: Facts, session_id: str | None = None) -> int:
    """Stored messages, of one session or of all (counted in an index, rows are not read)."""
    stored: int
    if session_id is None:
        stored = value(connection, "SELECT COUNT(*) FROM messages")
    else:
        sql = "SELECT COUNT(*) FROM messages WHERE session_id = ?"
        stored = value(connection, sql, (session_id,))
    return stored
