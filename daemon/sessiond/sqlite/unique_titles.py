"""Making session titles unique without dropping a session.

Files of the first versions may hold one title several times. The oldest session keeps it; a
later one gets the next number of its lineage that is above those of all older sessions, so that
the title still resolves to the newest.
"""

import logging
from typing import NamedTuple

import apsw

from sessiond.sqlite.ask import rows as rows_of
from sessiond_protocol.titles import numbered, split_number

logger = logging.getLogger("sessiond.migrations")


class Retitled(NamedTuple):
    """A session whose title changed; ``after`` is None for a blank title that was cleared."""

    session_id: str
    before: str
    after: str | None


def make_titles_unique(connection: apsw.Connection) -> list[Retitled]:
    """Give every repeated title a number, inside the caller's transaction; log each change."""
    changes = []
    for rowid, retitled in _changes(connection):
        connection.execute("UPDATE sessions SET title = ? WHERE rowid = ?", (retitled.after, rowid))
        logger.warning(
            "title of session %s was used before: %r is now %r",
            retitled.session_id,
            retitled.before,
            retitled.after,
        )
        changes.append(retitled)
    return changes


def _changes(connection: apsw.Connection) -> list[tuple[int, Retitled]]:
    if not rows_of(
        connection,
        "SELECT 1 FROM sessions WHERE title IS NOT NULL GROUP BY title HAVING count(*) > 1 LIMIT 1",
    ):
        return []
    # Compared as bytes, as the index compares them: a title need not be valid UTF-8.
    rows = rows_of(
        connection,
        "SELECT rowid, CAST(id AS BLOB), typeof(title), CAST(title AS BLOB) FROM sessions"
        " WHERE title IS NOT NULL ORDER BY started_at, rowid",
    )
    taken = {_text(title) for _, _, _, title in rows}
    kept: set[tuple[str, bytes]] = set()
    highest: dict[str, int] = {}
    changes: list[tuple[int, Retitled]] = []
    for rowid, session, kind, raw in rows:
        title = _text(raw)
        base, number = split_number(title)
        if (kind, raw) not in kept:
            kept.add((kind, raw))
            highest[base] = max(highest.get(base, 1), number or 1)
            continue
        after = None
        if title.strip():
            after, highest[base] = _next_free(base, highest.get(base, 1) + 1, taken)
            taken.add(after)
        changes.append((rowid, Retitled(_text(session), title, after)))
    return changes


def _next_free(base: str, number: int, taken: set[str]) -> tuple[str, int]:
    while True:
        title, _ = numbered(base, number)
        if title not in taken:
            return title, number
        number += 1


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")
