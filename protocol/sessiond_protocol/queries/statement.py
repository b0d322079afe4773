"""What the read queries share: bounds of a page, filters by source, rows as dicts."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from sessiond_protocol.content import check_integer
from sessiond_protocol.queries.connection import ReadConnection

# SQLite takes 32,766 values in one statement; nobody has this many sources.
MAX_SOURCES: Final = 1000

# SQL of one condition and the values it binds.
Condition: TypeAlias = tuple[str, list[Any]]


def page_bounds(limit: int | None, offset: int = 0) -> tuple[int, int]:
    """The values of ``LIMIT ? OFFSET ?``; a ``limit`` of ``None`` means all.

    Raises ``ValueError`` naming the argument when one is negative or not an integer.
    """
    bound = -1 if limit is None else check_integer(limit, "limit", minimum=0)
    return bound, check_integer(offset, "offset", minimum=0)


def listed(column: str, values: Iterable[str], name: str, *, negated: bool = False) -> Condition:
    """The condition that ``column`` is (not) one of ``values``; an empty list holds nothing.

    ``name`` is the argument that an error names.
    """
    if isinstance(values, str):
        raise ValueError(f"{name} must be a list of text, not text")
    members = list(dict.fromkeys(values))
    if len(members) > MAX_SOURCES:
        raise ValueError(f"{name} has {len(members)} entries, at most {MAX_SOURCES} are allowed")
    operator = "NOT IN" if negated else "IN"
    return f"{column} {operator} ({', '.join('?' * len(members))})", members


def where(conditions: Sequence[Condition]) -> Condition:
    """A ``WHERE`` clause of all ``conditions`` (nothing for none), with a leading space."""
    if not conditions:
        return "", []
    clause = " WHERE " + " AND ".join(sql for sql, _ in conditions)
    return clause, [value for _, values in conditions for value in values]


def dicts(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Each row as ``{column: value}``."""
    return [dict(zip(names, row, strict=True)) for row in rows]


def value(connection: ReadConnection, sql: str, parameters: Sequence[Any] = ()) -> Any:
    """The one value of the first row, or ``None`` when there is no row."""
    rows = connection.execute(sql, parameters).fetchall()
    return rows[0][0] if rows else None
