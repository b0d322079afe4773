"""Making the search index anew from the messages.

Up to a million messages in one transaction, which is over in seconds. Above that into
a second table, in slices between the batches, which then takes the place of the first. While
that goes on our own changes are kept in the second table for rows up to the cursor; what another
program commits cannot be followed, so the rebuild starts again, and the third time it is made in
one transaction.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import apsw

from sessiond.sqlite.access import WriteAccess
from sessiond.sqlite.ask import beating, rows, value
from sessiond.sqlite.damage import (
    BROKEN,
    NEXT,
    WORDS,
    FileDamaged,
    IndexDamaged,
    on_index,
    write_out,
)
from sessiond.sqlite.judge import Mode
from sessiond.sqlite.slices import Pace, next_range
from sessiond_protocol.schema import FTS_NEXT_TABLE, FTS_TABLE, FTS_TRIGGERS

log = logging.getLogger("sessiond.rebuild")

ONE_TRANSACTION: Final = 1_000_000
_MOST_STARTS: Final = 2

_FILL: Final = (
    f"INSERT INTO {NEXT} (rowid, content) SELECT id, content FROM messages WHERE id > ? AND id <= ?"
)


class Rebuild:
    """Rebuilds ``messages_fts`` whenever its health asks for it and the schema allows it.

    ``beat`` is called again and again during a rebuild in one transaction.
    """

    def __init__(
        self,
        access: WriteAccess,
        clock: Callable[[], float],
        *,
        one_transaction: int = ONE_TRANSACTION,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._access = access
        self._one_transaction = one_transaction
        self._beat = beat
        self._pace = Pace(clock)
        self._starts = 0
        self._at_start = -1  # foreign commits, when the second table was begun
        self._filling = False
        self._at_once_now = False
        self._given_up = False  # until the next start
        self._total = 0
        self.rebuilds = 0

    @property
    def wanted(self) -> bool:
        """The index is out of order and can be rebuilt."""
        access = self._access
        return (
            bool(access.health.words)
            and access.may_rebuild_words
            and (self._filling or access.watch.verdict.index_is_followed)
            and not self._given_up
        )

    @property
    def filling(self) -> bool:
        """The second table is being filled, and the triggers are away for as long."""
        return self._filling

    @property
    def next_cursor(self) -> int | None:
        """Rows up to this id must be kept in the second table too; None: there is none."""
        if not self._filling or self._at_start != self._access.foreign_commits:
            return None
        return self._access.meta.committed.rebuild_cursor

    def progress(self) -> dict[str, Any] | None:
        """How far it is, in message ids; None while nothing is rebuilt."""
        if not self._filling and not self._at_once_now:
            return None
        cursor = self._access.meta.committed.rebuild_cursor or 0
        return {"done": cursor, "total": self._total, "starts": self._starts}

    def abandon(self) -> None:
        """The second table is damaged, or of another history: start again."""
        self._filling = False

    def begin_again(self) -> None:
        """Another file has taken the place of the one that was known: nothing of it holds."""
        self._filling = self._given_up = False
        self._starts = 0

    def step(self) -> bool:
        """A slice of it; True if there is more."""
        if not self.wanted:
            return False
        if self._filling:
            if self._at_start == self._access.foreign_commits:
                self._slice()
                return True
            log.warning("another program wrote during the rebuild, which starts again")
            self._filling = False
        if self._starts >= _MOST_STARTS or not self._in_slices():
            self._at_once()
        else:
            self._begin()
        return True

    def _in_slices(self) -> bool:
        access = self._access
        if access.watch.verdict.mode is Mode.FOREIGN:
            # With another program's triggers enabled, two writers would fill one table.
            return False
        bounds = rows(access.connection, "SELECT max(id) - min(id) + 1 FROM messages")
        if (bounds[0][0] or 0) <= self._one_transaction:
            return False
        count: int = value(access.connection, "SELECT count(*) FROM messages")
        return count > self._one_transaction

    # --- in one transaction ------------------------------------------------------------------

    def _at_once(self) -> None:
        access = self._access
        reason = access.health.words
        count: int = value(access.connection, "SELECT count(*) FROM messages")
        log.warning("rebuilding the search index of %d messages (%s)", count, reason)
        self._at_once_now, self._total = True, count
        try:
            with beating(access.connection, self._beat), access.working() as connection:
                self._require(reason)
                with contextlib.suppress(IndexDamaged):  # then it is left where it is
                    self._drop_next(connection)
                self._fill_at_once(connection)
                self._put_triggers_back(connection)
                self._healthy()
        except BaseException:
            access.health.words = reason
            raise
        finally:
            self._at_once_now = False
        self._done()

    def _fill_at_once(self, connection: apsw.Connection) -> None:
        rebuild = f"INSERT INTO {WORDS} ({WORDS}) VALUES ('rebuild')"
        try:
            connection.execute(rebuild)
            return
        except BROKEN as error:
            log.warning("the search index cannot be emptied (%s), it is made anew", error)
        self._drop_words(connection)
        connection.execute(FTS_TABLE)
        try:
            connection.execute(rebuild)
        except apsw.CorruptError as error:
            # An index made a moment ago is sound: it is the messages that cannot be read.
            raise FileDamaged(str(error)) from error

    # --- in slices -----------------------------------------------------------------------------

    def _begin(self) -> None:
        access = self._access
        self._starts += 1
        with access.working() as connection:
            self._require(access.health.words)
            self._drop_next(connection)
            connection.execute(FTS_NEXT_TABLE)
            # A delete by trigger of what the index does not hold would fail in the program that
            # deletes, or damage it further.
            for name in FTS_TRIGGERS:
                connection.execute(f"DROP TRIGGER IF EXISTS {name}")
            access.meta.row.rebuild_cursor = 0
            self._total = value(connection, "SELECT max(id) FROM messages") or 0
        access.watch.own_change()
        self._filling, self._at_start = True, access.foreign_commits
        log.warning("rebuilding the search index in slices (%s)", access.health.words)

    def _slice(self) -> None:
        access = self._access
        reason = access.health.words
        cursor = access.meta.committed.rebuild_cursor or 0
        self._pace.start()
        try:
            with access.working() as connection:
                if self._at_start != access.foreign_commits:
                    return
                part = next_range(connection, cursor, self._pace.budget)
                with on_index(NEXT):
                    connection.execute(_FILL, (part.low, part.high))
                    write_out(connection, NEXT)
                access.meta.row.rebuild_cursor = part.high
                if part.last:
                    self._swap(connection)
        except BaseException:
            access.health.words = reason
            raise
        self._pace.done(part.cost)
        if part.last:
            self._done()

    def _swap(self, connection: apsw.Connection) -> None:
        """Put the second table into the place of the first, if it holds what it must."""
        counts = f"SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM {NEXT}_docsize)"
        with on_index(NEXT):
            ((messages, indexed),) = rows(connection, counts)
        if messages != indexed:
            raise IndexDamaged(NEXT, f"holds {indexed} of {messages} messages")
        self._drop_words(connection)
        # The other setting looks into triggers, and finds ours without their table.
        connection.execute("PRAGMA legacy_alter_table=ON")
        try:
            connection.execute(f"ALTER TABLE {NEXT} RENAME TO {WORDS}")
        finally:
            connection.execute("PRAGMA legacy_alter_table=OFF")
        self._put_triggers_back(connection)
        self._healthy()

    # --- both ------------------------------------------------------------------------------------

    def _require(self, reason: str) -> None:
        """Inside the transaction: it is still what was seen before it."""
        if not self._access.may_rebuild_words:
            raise SchemaMoved(reason)

    def _drop_next(self, connection: apsw.Connection) -> None:
        with on_index(NEXT):
            connection.execute(f"DROP TABLE IF EXISTS {NEXT}")

    def _drop_words(self, connection: apsw.Connection) -> None:
        try:
            connection.execute(f"DROP TABLE {WORDS}")
        except BROKEN as error:
            self._given_up, self._filling = True, False
            log.error("the search index cannot be removed (%s): search stays degraded", error)
            raise IndexDamaged(WORDS, f"cannot be removed, {error}") from error

    def _put_triggers_back(self, connection: apsw.Connection) -> None:
        there = _names(rows(connection, "SELECT name FROM sqlite_schema WHERE type = 'trigger'"))
        for name, statement in FTS_TRIGGERS.items():
            if name not in there:
                connection.execute(statement)

    def _healthy(self) -> None:
        self._access.health.words = ""
        self._access.meta.row.rebuild_cursor = None

    def _done(self) -> None:
        self._access.watch.own_change()
        self._filling = False
        self._starts = 0
        self.rebuilds += 1
        log.info("the search index is rebuilt")


class SchemaMoved(Exception):
    """Another program changed the schema between the look and the transaction."""


def _names(found: Iterable[tuple[str]]) -> set[str]:
    return {name.lower() for (name,) in found}
