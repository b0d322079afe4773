"""The pair index: messages whose text words cannot find, indexed a second time.

``sessiond_cjk`` holds each text as it was indexed in ``sessiond_cjk_fts``, so that a delete
always names what is there, whatever another program did to the message meanwhile.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import apsw

from sessiond.sqlite.damage import BROKEN, PAIRS, on_index, write_out
from sessiond_protocol.search import cjk

# Nearly all text has none of the characters that matter, and a regular expression over
# characters takes 0.1 ms to say so of 2,000 letters of Russian. Over the bytes of UTF-8 it costs
# a fraction: first which leading bytes occur that those characters have, then, where those also
# start harmless blocks (Arabic, Hindi, dashes and quotes), whether one starts a block of theirs.
_SHARED: Final = b"\xd8\xe1\xe2"
_HARMLESS: Final = bytes(
    byte for byte in range(256) if byte not in _SHARED and not 0xE3 <= byte <= 0xF4
)
_IN_E1: Final = re.compile(rb"\xe1[\x84-\x87]")
_IN_E2: Final = re.compile(
    rb"\xe2(?:\x81[\xa5-\xa9]|\x82[\xba-\xbf]|\x83[\x80-\x8f]|\x8f[\xb4-\xbf]|\x9c\x80"
    rb"|\xad[\x80-\xbf]|[\xae\xaf]|[\xb8-\xbf])"
)


def suspect(data: bytes) -> bool:
    """Whether text in UTF-8 may belong into the pair index; a fast no for nearly all text."""
    leads = data.translate(None, _HARMLESS)
    if not leads:
        return False
    return (
        bool(leads.translate(None, _SHARED))
        or b"\xd8\x9c" in data
        or _IN_E2.search(data) is not None
        or _IN_E1.search(data) is not None
    )


def pairs_of(text: str) -> str | None:
    """``text`` as the pair index holds it, None where it does not belong there."""
    return cjk.pairs(text) if suspect(text.encode("utf-8", "replace")) else None


def pairs_of_bytes(data: bytes | None) -> str | None:
    """The same of a column read as a blob; bytes that are not UTF-8 count as U+FFFD."""
    if data is None or not suspect(data):
        return None
    return cjk.pairs(data.decode("utf-8", "replace"))


def add_pairs(connection: apsw.Connection, texts: Mapping[int, str], *, indexed: bool) -> None:
    """Add rows whose ids are in neither table. Not ``indexed``: the index is out of order."""
    rows = list(texts.items())
    connection.executemany("INSERT INTO sessiond_cjk (message_id, pairs) VALUES (?, ?)", rows)
    if indexed:
        with on_index(PAIRS):
            connection.executemany(
                "INSERT INTO sessiond_cjk_fts (rowid, pairs) VALUES (?, ?)", rows
            )
            write_out(connection, PAIRS)


def remove_pairs(connection: apsw.Connection, session_id: str, last: int, *, indexed: bool) -> None:
    """Remove a session's rows up to the id ``last``, while its messages are still there."""
    if indexed:
        with on_index(PAIRS):
            connection.execute(
                "INSERT INTO sessiond_cjk_fts (sessiond_cjk_fts, rowid, pairs)"
                " SELECT 'delete', c.message_id, c.pairs FROM messages AS m"
                " CROSS JOIN sessiond_cjk AS c ON c.message_id = m.id"
                " WHERE m.session_id = ? AND m.id <= ?",
                (session_id, last),
            )
            write_out(connection, PAIRS)
    connection.execute(
        "DELETE FROM sessiond_cjk WHERE message_id IN"
        " (SELECT id FROM messages WHERE session_id = ? AND id <= ?)",
        (session_id, last),
    )


def drop_pairs(connection: apsw.Connection, ids: Iterable[int], *, indexed: bool) -> None:
    """Remove single rows."""
    rows = [(message_id,) for message_id in ids]
    if indexed:
        with on_index(PAIRS):
            connection.executemany(
                "INSERT INTO sessiond_cjk_fts (sessiond_cjk_fts, rowid, pairs)"
                " SELECT 'delete', message_id, pairs FROM sessiond_cjk WHERE message_id = ?",
                rows,
            )
            write_out(connection, PAIRS)
    connection.executemany("DELETE FROM sessiond_cjk WHERE message_id = ?", rows)


def empty_pairs(connection: apsw.Connection, create: str) -> None:
    """Start the pair index anew, empty; ``create`` makes its FTS5 table if it must be replaced.

    The caller sets the cursor to zero in the same transaction: from then on searches judge
    messages one by one until they have been looked at again.
    """
    connection.execute("DELETE FROM sessiond_cjk")
    try:
        connection.execute("INSERT INTO sessiond_cjk_fts (sessiond_cjk_fts) VALUES ('delete-all')")
        connection.execute("INSERT INTO sessiond_cjk_fts (sessiond_cjk_fts) VALUES ('rebuild')")
    except BROKEN:
        with on_index(PAIRS):
            connection.execute("DROP TABLE sessiond_cjk_fts")
            connection.execute(create)
