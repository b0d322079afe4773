"""Reading what gateways store: routes, the state of transcripts."""

from typing import Any, Final

from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.queries.facts import Facts
from sessiond_protocol.queries.statement import value
from sessiond_protocol.requests.route import MAX_ROUTES, Route, Transcript

COLUMNS: Final = "session_key, session_id, version, updated_at, entry"

# Rowids are given in order, so that one over 1 is the trace of an earlier session. Two rows
# tell the same in a file in which another program chose them.
_SEVERAL: Final = """
SELECT COALESCE((SELECT MAX(rowid) FROM sessions), 0) > 1
OR (SELECT COUNT(*) FROM (SELECT 1 FROM sessions LIMIT 2)) > 1
"""


def route(row: Any) -> Route:
    """The route of a row with ``COLUMNS``."""
    session_key, session_id, version, updated_at, entry = row
    return Route(
        session_key=session_key,
        session_id=session_id,
        version=version,
        updated_at=updated_at,
        entry=entry,
    )


def get(connection: ReadConnection, facts: Facts, session_key: str) -> Route | None:
    """The route of a key."""
    if "sessiond_routes" not in facts.tables:
        return None
    sql = f"SELECT {COLUMNS} FROM sessiond_routes WHERE session_key = ?"
    rows = connection.execute(sql, (session_key,)).fetchall()
    return route(rows[0]) if rows else None


def after(
    connection: ReadConnection, facts: Facts, after_key: str = "", limit: int = MAX_ROUTES
) -> list[Route]:
    """The routes with keys over ``after_key``, in order of the key."""
    if "sessiond_routes" not in facts.tables:
        return []
    sql = (
        f"SELECT {COLUMNS} FROM sessiond_routes WHERE session_key > ? ORDER BY session_key LIMIT ?"
    )
    return [route(row) for row in connection.execute(sql, (after_key, limit)).fetchall()]


def transcript(connection: ReadConnection, facts: Facts, session_id: str) -> Transcript:
    """How many rows a session has in ``messages``, hidden ones too, and whether it is marked."""
    marked = "0"
    parameters = [session_id]
    if "sessiond_transcripts" in facts.tables:
        marked = "EXISTS (SELECT 1 FROM sessiond_transcripts WHERE session_id = ?)"
        parameters.append(session_id)
    sql = f"SELECT (SELECT COUNT(*) FROM messages WHERE session_id = ?), {marked}"
    messages, is_marked = connection.execute(sql, parameters).fetchall()[0]
    return Transcript(messages, bool(is_marked))


def several(connection: ReadConnection, facts: Facts) -> bool:
    """Whether more than one session was ever created."""
    return bool(value(connection, _SEVERAL))
