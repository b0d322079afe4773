"""What is shown around a hit: the messages before and after it."""

from collections.abc import Sequence
from typing import Any, Final

from sessiond_protocol.content import INLINE_JSON, content_text
from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.queries.facts import Facts
from sessiond_protocol.queries.messages import shown
from sessiond_protocol.rows import decode_content
from sessiond_protocol.search.candidates import IDS, places, text_of

CONTEXT_LENGTH: Final = 200
_INLINE_JSON: Final = INLINE_JSON.encode()

# Four bytes are the most that a character takes in UTF-8.
_SHOWN: Final = (
    f"{{0}}.id, {{0}}.role, substr(CAST({{0}}.content AS BLOB), 1, {4 * CONTEXT_LENGTH})"
)

# One row a hit costs half of what three rows would.
_CONTEXT: Final = f"""
SELECT {", ".join(map(_SHOWN.format, ("b", "h", "a")))} FROM messages AS h
LEFT JOIN messages AS b ON b.id = (
    SELECT p.id FROM messages AS p WHERE p.session_id = h.session_id AND p.id < h.id{{shown}}
    ORDER BY p.id DESC LIMIT 1
)
LEFT JOIN messages AS a ON a.id = (
    SELECT p.id FROM messages AS p WHERE p.session_id = h.session_id AND p.id > h.id{{shown}}
    ORDER BY p.id LIMIT 1
)
WHERE h.id IN ({{ids}})
"""


def contexts(
    connection: ReadConnection, facts: Facts, ids: Sequence[int]
) -> dict[int, list[dict[str, Any]]]:
    """Around each hit, oldest first: the message before, the hit, the message after it.

    Each is ``{role, content}`` with its text cut at 200 characters (``""`` without text). The
    neighbours are those of the same session, by id, rewound messages left out. One statement
    for up to 500 hits; structured content of newer files takes one more.
    """
    found: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(ids), IDS):
        part = ids[start : start + IDS]
        sql = _CONTEXT.format(ids=places(len(part)), shown=shown(facts, "p"))
        cut: list[tuple[int, dict[str, Any]]] = []
        for row in connection.execute(sql, part).fetchall():
            found[row[3]] = [
                _message(row[at], row[at + 1], row[at + 2], cut)
                for at in (0, 3, 6)
                if row[at] is not None
            ]
        if cut:
            structured = _structured(connection, {at for at, _ in cut})
            for at, message in cut:
                text = structured.get(at)
                whole = message["content"] if text is None else text
                message["content"] = whole[:CONTEXT_LENGTH]
    return found


def _message(
    at: int, role: str, content: bytes | None, cut: list[tuple[int, dict[str, Any]]]
) -> dict[str, Any]:
    """A message as it is shown; one that holds JSON is added to ``cut``."""
    if content is None:
        return {"role": role, "content": ""}
    message = {"role": role, "content": text_of(content)[:CONTEXT_LENGTH]}
    if content.startswith(_INLINE_JSON):
        cut.append((at, message))
    return message


def _structured(connection: ReadConnection, ids: set[int]) -> dict[int, str]:
    """The text of messages that hold JSON, which cannot be read when it is cut."""
    texts: dict[int, str] = {}
    wanted = sorted(ids)
    for start in range(0, len(wanted), IDS):
        part = wanted[start : start + IDS]
        sql = f"SELECT id, CAST(content AS BLOB) FROM messages WHERE id IN ({places(len(part))})"
        for at, content in connection.execute(sql, part).fetchall():
            texts[at] = readable(text_of(content))
    return texts


def readable(text: str) -> str:
    """``text`` of a column, or the text parts of the structure that newer files keep there."""
    if not text.startswith(INLINE_JSON):
        return text
    decoded = decode_content(text, None, None)
    return decoded if isinstance(decoded, str) else content_text(decoded)
