"""Keeping both search indexes current from inside a batch.

Indexing row by row (or by trigger) makes FTS5 write its pending terms out again and again; one
statement over the batch's new ids just before the commit costs a fraction and leaves the index
never behind a commit.

FTS5 removes what it is told was there. A ``'delete'`` for a row that is not indexed corrupts the
index, at once or unnoticed. Therefore ids stay in ``pending`` until the end of the batch, a
pending row that goes is only forgotten, and every other row gets its ``'delete'`` with the text
that was indexed. A batch's rows have the highest ids of the table, so that every row from the
first pending id on is a pending one.
"""

from typing import Any, Final

from sessiond.sqlite.access import WriteAccess
from sessiond.sqlite.batch import Batch, Index
from sessiond.sqlite.cjk_index import add_pairs, drop_pairs, pairs_of, remove_pairs
from sessiond.sqlite.damage import NEXT, WORDS, on_index, write_out
from sessiond.sqlite.meta import MetaRow

_HIGHEST: Final = 2**63 - 1


class SearchIndex(Index):
    """The indexes during one run of a batch, as they are to be kept in its transaction.

    ``words``: ``messages_fts`` is maintained here. ``next_cursor``: rows up to this id are in
    the table that a rebuild fills, None without one. ``pairs``: the pair index is sound; its
    side table is kept in any case. What the run stages for the meta row goes to ``row``.
    """

    __slots__ = ("_next_cursor", "_pairs", "_row", "_words")

    def __init__(self, *, words: bool, next_cursor: int | None, pairs: bool, row: MetaRow) -> None:
        self._words = words
        self._next_cursor = next_cursor
        self._pairs = pairs
        self._row = row

    def added(self, batch: Batch, message_id: int, content: str | None) -> None:
        """Remember an inserted row; it is indexed with the rest of the batch."""
        staged = batch.staged
        staged.pending[message_id] = None
        if content is not None and not content.isascii():
            pairs = pairs_of(content)
            if pairs is not None:
                staged.pairs[message_id] = pairs

    def added_all(self, batch: Batch, first_id: int, contents: list[str | None]) -> None:
        """The same for several, with rising ids."""
        staged = batch.staged
        staged.pending.update(dict.fromkeys(range(first_id, first_id + len(contents))))
        for message_id, content in enumerate(contents, first_id):
            if content is not None and not content.isascii():
                pairs = pairs_of(content)
                if pairs is not None:
                    staged.pairs[message_id] = pairs

    def removing_session(self, batch: Batch, session_id: str) -> None:
        """Take a session's rows out of the indexes, with the texts that were indexed."""
        last = self._forget_pending(batch, session_id)
        if self._words:
            self._change(batch, WORDS, _DELETE, (session_id, last))
        if self._next_cursor is not None:
            self._change(batch, NEXT, _DELETE, (session_id, min(last, self._next_cursor)))
        remove_pairs(batch.connection, session_id, last, indexed=self._pairs)

    def _change(self, batch: Batch, index: str, sql: str, parameters: tuple[Any, ...]) -> None:
        with on_index(index):
            batch.execute(sql.format(index), parameters)
            write_out(batch.connection, index)

    def _forget_pending(self, batch: Batch, session_id: str) -> int:
        """Drop a session's rows of this batch; the highest id that older rows can have."""
        staged = batch.staged
        first = next(iter(staged.pending), None)
        if first is None:
            return _HIGHEST
        for (message_id,) in batch.execute(
            "SELECT id FROM messages WHERE session_id = ? AND id >= ?", (session_id, first)
        ).fetchall():
            staged.pending.pop(message_id, None)
            staged.pairs.pop(message_id, None)
        return first - 1

    def flush(self, batch: Batch) -> None:
        """Index every row the batch added; the last thing before the commit."""
        staged = batch.staged
        if not staged.pending:
            return
        first, last = next(iter(staged.pending)), next(reversed(staged.pending))
        if self._words:
            self._change(batch, WORDS, _INSERT, (first, last))
        if staged.pairs:
            self._drop_strays(batch, first, last)
            add_pairs(batch.connection, staged.pairs, indexed=self._pairs)
        self._advance(batch, first, last)
        staged.pending.clear()
        staged.pairs.clear()

    def _drop_strays(self, batch: Batch, first: int, last: int) -> None:
        """Rows of messages that another program removed, and whose ids it let be given again."""
        found = batch.execute(
            "SELECT message_id FROM sessiond_cjk WHERE message_id BETWEEN ? AND ?", (first, last)
        ).fetchall()
        if found:
            drop_pairs(batch.connection, (row[0] for row in found), indexed=self._pairs)

    def _advance(self, batch: Batch, first: int, last: int) -> None:
        """The pair index has looked at these rows too, if at all before them."""
        cursor = self._row.cjk_cursor
        if cursor == first - 1 or (
            cursor < first
            and batch.row("SELECT 1 FROM messages WHERE id > ? AND id < ?", (cursor, first)) is None
        ):
            self._row.cjk_cursor = last


def index_for(access: WriteAccess, next_cursor: int | None) -> SearchIndex:
    """How the indexes are to be kept in the transaction that has just begun."""
    return SearchIndex(
        words=access.keeps_words,
        next_cursor=next_cursor,
        pairs=not access.health.pairs,
        row=access.meta.row,
    )


_INSERT: Final = (
    "INSERT INTO {0} (rowid, content) SELECT id, content FROM messages WHERE id BETWEEN ? AND ?"
)
_DELETE: Final = (
    "INSERT INTO {0} ({0}, rowid, content)"
    " SELECT 'delete', id, content FROM messages WHERE session_id = ? AND id <= ?"
)
