"""Comparing an external-content FTS5 index with its content, term by term.

What should be in the index is put into a temporary one of the same tokenizer. Of both, each
term's documents and places are summed up by SQLite; only terms whose sums differ are looked at
closely. A temporary index takes about as much room as the one it is compared with.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import apsw

from sessiond.sqlite.ask import beating, rows

_MOST_TERMS: Final = 1_000
_MOST_MESSAGES: Final = 1_000


class Index(NamedTuple):
    """An FTS5 table, and the table, row id and column of its content."""

    name: str
    table: str
    rowid: str
    column: str


INDEXES: Final = (
    Index("messages_fts", "messages", "id", "content"),
    Index("sessiond_cjk_fts", "sessiond_cjk", "message_id", "pairs"),
)

# Sums that differ as soon as a document or a place differs, short of a coincidence; bounded, so
# that no number of them is too large.
_SUMS: Final = (
    "SELECT term, count(*), sum(doc % 1000003), sum((doc % 1000003) * (offset + 7) % 2147483647)"
    " FROM temp.{0} GROUP BY term ORDER BY term"
)


def compare_index(
    connection: apsw.Connection, index: Index, beat: Callable[[], None]
) -> Iterator[str]:
    """What differs, in words, for each row concerned; ``beat`` is called while it works."""
    with beating(connection, beat):
        yield from _compare_documents(connection, index)
        try:
            _make_expected(connection, index)
            terms = list(islice(_different_terms(connection), _MOST_TERMS))
            concerned: set[int] = set()
            for term in terms:
                concerned |= _documents(connection, term)
                if len(concerned) > _MOST_MESSAGES:
                    break
            for document in sorted(concerned):
                yield f"message {document}: {index.name} holds other words than its text has"
        finally:
            for table in ("sessiond_found", "sessiond_wanted", "sessiond_expected"):
                connection.execute(f"DROP TABLE IF EXISTS temp.{table}")


def _compare_documents(connection: apsw.Connection, index: Index) -> Iterator[str]:
    for sql, text in (
        (
            f"SELECT {index.rowid} FROM {index.table} EXCEPT SELECT id FROM {index.name}_docsize",
            "is not in",
        ),
        (
            f"SELECT id FROM {index.name}_docsize EXCEPT SELECT {index.rowid} FROM {index.table}",
            "does not exist, but is in",
        ),
    ):
        for (document,) in rows(connection, sql):
            yield f"message {document} {text} {index.name}"


def _make_expected(connection: apsw.Connection, index: Index) -> None:
    connection.execute(
        f"CREATE VIRTUAL TABLE temp.sessiond_expected USING fts5({index.column}, content='')"
    )
    connection.execute(
        f"INSERT INTO temp.sessiond_expected (rowid, {index.column})"
        f" SELECT {index.rowid}, {index.column} FROM {index.table}"
    )
    connection.execute(
        f"CREATE VIRTUAL TABLE temp.sessiond_found USING fts5vocab(main, {index.name}, instance)"
    )
    connection.execute(
        "CREATE VIRTUAL TABLE temp.sessiond_wanted"
        " USING fts5vocab(temp, sessiond_expected, instance)"
    )


def _different_terms(connection: apsw.Connection) -> Iterator[str]:
    found = connection.execute(_SUMS.format("sessiond_found"))
    wanted = connection.execute(_SUMS.format("sessiond_wanted"))
    one, other = _next(found), _next(wanted)
    try:
        while one is not None or other is not None:
            if one == other:
                one, other = _next(found), _next(wanted)
            elif other is None or (one is not None and _bytes(one[0]) < _bytes(other[0])):
                assert one is not None
                yield one[0]
                one = _next(found)
            elif one is None or _bytes(other[0]) < _bytes(one[0]):
                yield other[0]
                other = _next(wanted)
            else:
                yield one[0]
                one, other = _next(found), _next(wanted)
    finally:
        found.close()
        wanted.close()


def _next(cursor: apsw.Cursor) -> tuple[Any, ...] | None:
    return next(cursor, None)


def _bytes(term: str) -> bytes:
    return term.encode("utf-8", "surrogatepass")


def _documents(connection: apsw.Connection, term: str) -> set[int]:
    """Documents with this term at other places here than there."""
    sql = "SELECT doc, offset FROM temp.{0} WHERE term = ?"
    found = set(rows(connection, sql.format("sessiond_found"), (term,)))
    wanted = set(rows(connection, sql.format("sessiond_wanted"), (term,)))
    return {document for document, _ in found ^ wanted}
