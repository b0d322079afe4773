"""Message rows of a run, inserted together instead of one by one.

A row's id must be known when it is staged, for its answer and its receipt. Nobody else inserts
while the write lock is held, and SQLite gives ids that rise by one; whether it gave those that
were foretold is asked after each insertion. If not, or if a row cannot be stored, the run is
taken back and the batch run again, row by row.

A row with a lower time than its session had has the session noted, see
:mod:`sessiond.sqlite.disorder`.
"""

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import apsw

from sessiond.sqlite.disorder import NOTE

INSERT: Final = (
    "INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, tool_name,"
    " timestamp, token_count, finish_reason, reasoning, reasoning_details,"
    " codex_reasoning_items) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SESSION: Final = 0
TIME: Final = 6  # places in a row
# Each statement lets other threads run and then waits for its turn again: the fewer, the better.
_AT_ONCE: Final = 64
_INSERT_MANY: Final = INSERT + ", (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" * (_AT_ONCE - 1)
_MOST_SESSIONS: Final = 10_000


class NotInserted(Exception):
    """A staged row could not be stored, or did not get the id that was foretold."""


class Insertion:
    """Remembers sessions that exist and the last id, and gathers rows of those sessions.

    What it remembers is a guess, learnt from rows that were inserted by themselves. What is not
    known costs a statement, what is wrong costs the run of a batch. Only the highest time of
    each session is certain, not to be lower than that in the file.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._newest: dict[str, float] = {}  # of each session that exists, its highest time
        self._disordered: set[str] = set()
        self._last_id: int | None = None
        self._rows: list[tuple[Any, ...]] = []

    def takes(self, session_id: str) -> bool:
        """Whether rows of this session may be staged."""
        return self._last_id is not None and session_id in self._newest

    def stage(self, row: tuple[Any, ...]) -> int:
        """Insert a row of a session that is taken, later; the id that it will have."""
        assert self._last_id is not None
        self._last_id += 1
        self._rows.append(row)
        self._note_times((row,))
        return self._last_id

    def takes_all(self, session_ids: Iterable[str]) -> bool:
        """The same of several sessions."""
        return self._last_id is not None and all(map(self._newest.__contains__, session_ids))

    def stage_all(self, rows: list[tuple[Any, ...]]) -> int:
        """The same of several rows; the id of the first."""
        assert self._last_id is not None
        first = self._last_id + 1
        self._last_id += len(rows)
        self._rows += rows
        self._note_times(rows)
        return first

    def _note_times(self, rows: Iterable[tuple[Any, ...]]) -> None:
        newest = self._newest
        for row in rows:
            session_id, time = row[SESSION], row[TIME]
            if time >= newest[session_id]:
                newest[session_id] = time
            else:
                self._disordered.add(session_id)

    def inserted(self, session_id: str, message_id: int, newest: float) -> None:
        """A row was inserted by itself, with nothing staged before it.

        ``newest``: the highest time of its session now.
        """
        if len(self._newest) >= _MOST_SESSIONS:
            self._newest.clear()
        self._newest[session_id] = newest
        self._last_id = message_id

    def emptied(self, session_id: str) -> None:
        """A session has lost its messages, with nothing staged."""
        if session_id in self._newest:
            self._newest[session_id] = -math.inf

    def forget(self) -> None:
        """Rows may have been inserted that are not known here."""
        self._last_id = None
        self._newest.clear()

    def flush(self) -> None:
        """Insert what is staged. Raises :class:`NotInserted`."""
        staged = self._rows
        if not staged:
            return
        self._rows = []
        disordered, self._disordered = self._disordered, set()
        try:
            self._insert(staged)
            if disordered:
                self._connection.executemany(NOTE, [(session_id,) for session_id in disordered])
        except apsw.Error as error:
            raise NotInserted(str(error)) from error
        if self._connection.last_insert_rowid() != self._last_id:
            raise NotInserted(f"the last id is not {self._last_id}")

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        whole = len(rows) - len(rows) % _AT_ONCE
        for start in range(0, whole, _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            self._connection.execute(_INSERT_MANY, tuple(chain.from_iterable(part)))
        self._connection.executemany(INSERT, rows[whole:])


class Insertions:
    """What one batch leaves for the next, if it was committed and nothing came between."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._left: Insertion | None = None
        self._foreign_commits = 0

    def take(self, foreign_commits: int) -> Insertion:
        """For the next run. One that is taken back takes it along."""
        left, self._left = self._left, None
        if left is None or foreign_commits != self._foreign_commits:
            self._foreign_commits = foreign_commits
            left = Insertion(self._connection)
        return left

    def give_back(self, insertion: Insertion) -> None:
        """The run that had it was committed."""
        self._left = insertion

    def forget(self) -> None:
        """Something else than batches has changed the file."""
        self._left = None
