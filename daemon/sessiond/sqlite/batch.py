"""One run of a batch: everything that is derived while its requests are applied.

A batch may run more than once (without savepoints, with them, without the culprit). Whatever a
run derives lives here and is thrown away with it; nothing outside is touched before the commit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from sessiond.sqlite.insertion import Insertion
from sessiond_protocol.channel import ChannelRun
from sessiond_protocol.requests.feed import Event


class Staged:
    """What a run has changed in the tables' derivatives and not written yet.

    ``pending``: ids inserted and not yet indexed. ``pairs``: the same for the pair index, with
    the text. ``counters``: per session, messages and tool calls to add.
    """

    __slots__ = ("counters", "pairs", "pending")

    def __init__(self) -> None:
        self.pending: dict[int, None] = {}
        self.pairs: dict[int, str] = {}
        self.counters: dict[str, list[int]] = {}

    def copy(self) -> "Staged":
        """A copy to go back to when a savepoint is rolled back."""
        copy = Staged()
        copy.pending = dict(self.pending)
        copy.pairs = dict(self.pairs)
        copy.counters = {session: list(added) for session, added in self.counters.items()}
        return copy


class Batch:
    """One run of a batch on the write connection, inside its transaction.

    ``insertion`` gathers message rows, None where each request stands alone. It must be empty
    before anybody looks at messages.
    """

    __slots__ = (
        "changes",
        "connection",
        "events",
        "execute",
        "index",
        "insertion",
        "last_message_id",
        "runs",
        "staged",
    )

    def __init__(
        self, connection: apsw.Connection, index: "Index", insertion: Insertion | None = None
    ) -> None:
        self.connection = connection
        self.execute: Callable[..., Any] = connection.execute
        self.index = index
        self.insertion = insertion
        self.staged = Staged()
        self.events: list[Event] = []
        self.runs: dict[bytes, ChannelRun] = {}
        self.last_message_id = 0
        self.changes = (
            0  # counts what was staged, so that a failed request can prove it left no mark
        )

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first row of a statement that is run to its end, or None."""
        rows = self.execute(sql, parameters).fetchall()
        return rows[0] if rows else None

    @property
    def mark(self) -> tuple[int, int]:
        """Differs after anything was changed, in the database or in what is staged."""
        return (self.connection.total_changes(), self.changes)

    def count(self, session_id: str, messages: int, tool_calls: int) -> None:
        """Raise a session's counters when the batch is finished."""
        added = self.staged.counters.get(session_id)
        self.changes += 1
        if added is None:
            self.staged.counters[session_id] = [messages, tool_calls]
        else:
            added[0] += messages
            added[1] += tool_calls

    def flush_rows(self) -> None:
        """Insert the message rows that are staged."""
        if self.insertion is not None:
            self.insertion.flush()

    def flush_counters(self) -> None:
        """Write the counters that are staged."""
        counters = self.staged.counters
        if not counters:
            return
        self.connection.executemany(
            "UPDATE sessions SET message_count = coalesce(message_count, 0) + ?,"
            " tool_call_count = coalesce(tool_call_count, 0) + ? WHERE id = ?",
            [(added[0], added[1], session) for session, added in counters.items()],
        )
        counters.clear()

    def finish(self) -> None:
        """Write everything staged; the last thing before the receipts and the commit."""
        self.flush_counters()
        self.index.flush(self)


class Index:
    """What a batch needs of the search index; see :mod:`sessiond.sqlite.search_index`."""

    def added(self, batch: Batch, message_id: int, content: str | None) -> None:
        """A message was inserted."""
        raise NotImplementedError

    def added_all(self, batch: Batch, first_id: int, contents: list[str | None]) -> None:
        """Several messages were inserted."""
        raise NotImplementedError

    def removing_session(self, batch: Batch, session_id: str) -> None:
        """All messages of a session are about to be deleted."""
        raise NotImplementedError

    def flush(self, batch: Batch) -> None:
        """Index everything that is staged."""
        raise NotImplementedError
