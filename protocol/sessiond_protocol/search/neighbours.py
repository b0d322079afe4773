"""What is shown of a hit besides its snippet: its columns, and the messages around it."""

from collections.abc import Sequence
from typing import Any, Final

from sessiond_protocol.content import INLINE_JSON, content_text
from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.queries.facts import Facts
from sessiond_protocol.queries.messages import shown
from sessiond_protocol.rows import decode_content
from sessiond_protocol.search.candidates import IDS, places, text_of

CONTEXT_LENGTH: Final = 200

# Four bytes are the most that a character takes in UTF-8. Structured content of newer files is
# JSON in the column; cut, it could not be read.
_EXCERPT: Final = (
    "CASE WHEN substr(CAST({0}.content AS BLOB), 1, 6) = x'006a736f6e3a'"
    " THEN CAST({0}.content AS BLOB)"
    f" ELSE substr(CAST({{0}}.content AS BLOB), 1, {4 * CONTEXT_LENGTH}) END"
)

_CONTEXT: Final = """
WITH hit AS (SELECT id, session_id FROM messages WHERE id IN ({ids})),
near AS (
    SELECT id AS hit, 0 AS place, (
        SELECT p.id FROM messages AS p WHERE p.session_id = hit.session_id AND p.id < hit.id{shown}
        ORDER BY p.id DESC LIMIT 1
    ) AS message FROM hit
    UNION ALL SELECT id, 1, id FROM hit
    UNION ALL SELECT id, 2, (
        SELECT p.id FROM messages AS p WHERE p.session_id = hit.session_id AND p.id > hit.id{shown}
        ORDER BY p.id LIMIT 1
    ) FROM hit
)
SELECT near.hit, m.role, {excerpt}
FROM near CROSS JOIN messages AS m ON m.id = near.message ORDER BY near.hit, near.place
"""


def contexts(
    connection: ReadConnection, facts: Facts, ids: Sequence[int]
) -> dict[int, list[dict[str, Any]]]:
    """Around each hit, oldest first: the message before, the hit, the message after it.

    Each is ``{role, content}`` with its text cut at 200 characters (``""`` without text). The
    neighbours are those of the same session, by id, rewound messages left out. One statement
    for up to 500 hits.
    """
    found: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(ids), IDS):
        part = ids[start : start + IDS]
        sql = _CONTEXT.format(
            ids=places(len(part)), shown=shown(facts, "p"), excerpt=_EXCERPT.format("m")
        )
        for hit, role, content in connection.execute(sql, part).fetchall():
            found.setdefault(hit, []).append({"role": role, "content": _excerpt(content)})
    return found


def _excerpt(content: Any) -> str:
    return readable(text_of(content))[:CONTEXT_LENGTH]


def readable(text: str) -> str:
    """``text`` of a column, or the text parts of the structure that newer files keep there."""
    if not text.startswith(INLINE_JSON):
        return text
    decoded = decode_content(text, None, None)
    return decoded if isinstance(decoded, str) else content_text(decoded)
