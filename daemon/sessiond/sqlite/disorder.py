"""Noting sessions in which the order of time is not that of the ids.

:mod:`sessiond_protocol.queries.order` says what for. A session that is noted without need costs
its readers a little time; one that is not noted would have them miss a neighbour. Therefore the
highest time of a session is remembered too high, if at all wrong, and a mark is only taken away
with the session's last message.
"""

import math
from typing import Any, Final

import apsw

from sessiond.sqlite.ask import rows

NOTE: Final = "INSERT OR IGNORE INTO sessiond_disorder (session_id) VALUES (?)"
FORGET: Final = "DELETE FROM sessiond_disorder WHERE session_id = ?"
# Read in the order of idx_messages_session: nothing is sorted.
NOTE_ALL: Final = (
    "INSERT OR IGNORE INTO sessiond_disorder (session_id) SELECT DISTINCT session_id FROM"
    " (SELECT session_id, id < lag(id) OVER (PARTITION BY session_id ORDER BY timestamp, id)"
    " AS fell FROM messages) WHERE fell"
)
NEWEST: Final = (
    "SELECT timestamp FROM messages WHERE session_id = ? ORDER BY timestamp DESC LIMIT 1"
)
_NEWEST_UP_TO: Final = (
    "SELECT timestamp FROM messages WHERE session_id = ? AND id <= ?"
    " ORDER BY timestamp DESC LIMIT 1"
)


def highest(found: list[Any]) -> float:
    """The time of a row of :data:`NEWEST`; above every number if it is none itself."""
    if not found:
        return -math.inf
    time = found[0][0]
    return time if isinstance(time, int | float) else math.inf


def disordered(connection: apsw.Connection, low: int, high: int) -> list[str]:
    """Sessions not noted in which an id over ``low`` up to ``high`` has too low a time.

    Too low: below that of a lower id. Those up to ``low`` are taken to be in order.
    """
    newest: dict[str, float] = {}
    found: set[str] = set()
    for session_id, time in rows(
        connection,
        "SELECT session_id, timestamp FROM messages WHERE id > ? AND id <= ? ORDER BY id",
        (low, high),
    ):
        before = newest.get(session_id)
        if before is None:
            before = highest(rows(connection, _NEWEST_UP_TO, (session_id, low)))
        if not isinstance(time, int | float) or time < before:
            found.add(session_id)
        else:
            before = time
        newest[session_id] = before
    noted = rows(connection, "SELECT session_id FROM sessiond_disorder") if found else []
    return sorted(found.difference(session_id for (session_id,) in noted))
