"""Messages page by page: no answer gets too large, and the first are there before the last."""

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from sessiond_client import SessionDB
from sessiond_client.cli.connect import ask
from sessiond_protocol import rows
from sessiond_protocol.requests.message import MessageLatest, MessagePage

PAGE: Final = 200


def pages(
    db: SessionDB, session_id: str, limit: int | None = None, offset: int = 0
) -> Iterator[list[dict[str, Any]]]:
    """A session's messages in order, decoded, in pages of at most 200."""
    after, skip, left = 0, offset, limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = ask(db, MessagePage(session_id=session_id, after_id=after, limit=size, offset=skip))
        if page.rows:
            yield [rows.decode_message(row) for row in page.rows]
        if not page.more or not page.rows:
            return
        after, skip = page.rows[-1]["id"], 0
        left = None if left is None else left - len(page.rows)


def latest(db: SessionDB, session_id: str | None, count: int) -> list[dict[str, Any]]:
    """The last messages of a session, or of all with None, decoded, the oldest first."""
    found: deque[dict[str, Any]] = deque()
    before: int | None = None
    while left := count - len(found):
        size = min(PAGE, left)
        page = ask(db, MessageLatest(session_id=session_id, limit=size, before_id=before))
        found.extendleft(map(rows.decode_message, reversed(page)))
        if len(page) < size:
            break
        before = page[0]["id"]
    return list(found)
