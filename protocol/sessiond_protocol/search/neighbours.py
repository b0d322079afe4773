"""What is shown around a hit: the messages before and after it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sessiond_protocol.content import INLINE_JSON, content_text
from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.queries.facts import Facts
from sessiond_protocol.queries.messages import shown
from sessiond_protocol.queries.order import by_session, follows_time
from sessiond_protocol.rows import decode_content
from sessiond_protocol.search.candidates import IDS, places, text_of

CONTEXT_LENGTH: Final = 200
_INLINE_JSON: Final = INLINE_JSON.encode()
_MARK: Final = len(_INLINE_JSON)

# Four bytes are the most that a character takes in UTF-8.
_SHOWN: Final = (
    "{0}.id, {0}.role,"
    f" coalesce(substr(CAST({{0}}.content AS BLOB), 1, {4 * CONTEXT_LENGTH}), x'')"
)

# Of the message before, the message ``m`` itself, and the message after it.
COLUMNS: Final = ", ".join(map(_SHOWN.format, ("b", "m", "a")))
_WIDTH: Final = 9


@lru_cache(maxsize=4)
def joins(facts: Facts) -> str:
    """What adds the messages around ``m`` to a row: the one before it as ``b``, after it ``a``.

    The neighbours are those of the same session, by id, rewound messages left out. One row a
    hit costs half of what three rows would.
    """
    before = _next_to(facts, "m.id - 1", "<", "DESC", "max")
    after = _next_to(facts, "m.id + 1", ">", "ASC", "min")
    return f" LEFT JOIN messages AS b ON b.id = {before} LEFT JOIN messages AS a ON a.id = {after}"


def _next_to(facts: Facts, likely: str, sign: str, direction: str, end: str) -> str:
    """The id of the message next to ``m`` on one side; NULL if it is the last one there.

    While one session is written at a time it is the ``likely`` one, whose row lies beside that
    of ``m``. Otherwise the index finds it.
    """
    same = f"p.session_id = m.session_id{shown(facts, 'p')} AND"
    there = f"FROM {by_session(facts, 'p')} WHERE {same}"
    return (
        f"(CASE WHEN EXISTS (SELECT 1 FROM messages AS p WHERE {same} p.id = {likely})"
        f" THEN {likely}"
        f" WHEN {follows_time(facts, 'm.session_id')} THEN"
        f" (SELECT p.id {there} p.timestamp {sign}= m.timestamp AND p.id {sign} m.id"
        f" ORDER BY p.timestamp {direction}, p.id {direction} LIMIT 1)"
        f" ELSE (SELECT {end}(p.id) {there} p.id {sign} m.id) END)"
    )


def contexts(
    connection: ReadConnection, facts: Facts, ids: Sequence[int]
) -> dict[int, list[dict[str, Any]]]:
    """Around each hit what :func:`read_contexts` gives. One statement for up to 500 hits."""
    found: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(ids), IDS):
        part = ids[start : start + IDS]
        rows = connection.execute(
            f"SELECT {COLUMNS}, m.id FROM messages AS m{joins(facts)}"
            f" WHERE m.id IN ({places(len(part))})",
            part,
        ).fetchall()
        hits = [row[-1] for row in rows]
        found.update(zip(hits, read_contexts(connection, rows), strict=True))
    return found


def read_contexts(
    connection: ReadConnection, rows: Sequence[Sequence[Any]], at: int = 0
) -> list[list[dict[str, Any]]]:
    """For each row, oldest first: the message before, the hit, the message after it.

    The rows have :data:`COLUMNS` from ``at`` on. Each message is ``{role, content}`` with its
    text cut at 200 characters (``""`` without text). Structured content of newer files takes
    one more statement.
    """
    found: list[list[dict[str, Any]]] = []
    structured: list[tuple[int, dict[str, Any]]] = []
    for row in rows:
        b_id, b_role, b_text, m_id, m_role, m_text, a_id, a_role, a_text = row[at : at + _WIDTH]
        context = [{"role": m_role, "content": text_of(m_text)[:CONTEXT_LENGTH]}]
        if b_id is not None:
            context.insert(0, {"role": b_role, "content": text_of(b_text)[:CONTEXT_LENGTH]})
        if a_id is not None:
            context.append({"role": a_role, "content": text_of(a_text)[:CONTEXT_LENGTH]})
        if _INLINE_JSON in (b_text[:_MARK], m_text[:_MARK], a_text[:_MARK]):
            ids = [message_id for message_id in (b_id, m_id, a_id) if message_id is not None]
            structured += zip(ids, context, strict=True)
        found.append(context)
    if structured:
        texts = _structured(connection, {message_id for message_id, _ in structured})
        for message_id, message in structured:
            if message_id in texts:
                message["content"] = texts[message_id][:CONTEXT_LENGTH]
    return found


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
