"""Keeping the search index current from inside a batch.

Indexing row by row (or by trigger) makes FTS5 write its pending terms out again and again; one
statement over the batch's new ids just before the commit costs a fraction and leaves the index
never behind a commit.
"""

from sessiond.sqlite.batch import Batch, Index


class SearchIndex(Index):
    """Maintains ``messages_fts`` for the rows that this connection changes."""

    def added(self, batch: Batch, message_id: int, content: str | None) -> None:
        """Remember an inserted row; it is indexed with the rest of the batch."""
        batch.staged.pending[message_id] = None

    def removing_session(self, batch: Batch, session_id: str) -> None:
        """Take a session's rows out of the index, with the text that was indexed.

        Rows of this batch are indexed first: a delete of an unindexed row corrupts the index.
        """
        self.flush(batch)
        batch.execute(
            "INSERT INTO messages_fts (messages_fts, rowid, content)"
            " SELECT 'delete', id, content FROM messages WHERE session_id = ?",
            (session_id,),
        )

    def flush(self, batch: Batch) -> None:
        """Index every row the batch added and has not indexed yet."""
        pending = batch.staged.pending
        if not pending:
            return
        first, last = min(pending), max(pending)
        if last - first + 1 == len(pending):
            batch.execute(
                "INSERT INTO messages_fts (rowid, content)"
                " SELECT id, content FROM messages WHERE id BETWEEN ? AND ?",
                (first, last),
            )
        else:
            ids = "[" + ",".join(map(str, pending)) + "]"
            batch.execute(
                "INSERT INTO messages_fts (rowid, content) SELECT id, content FROM messages"
                " WHERE id IN (SELECT value FROM json_each(?))",
                (ids,),
            )
        pending.clear()
