"""The write connection's transactions: what comes first and last in every one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import apsw

from sessiond.database import UnsafeFile
from sessiond.sqlite.ask import value
from sessiond.sqlite.damage import PAIRS, WORDS, IndexDamaged, on_index
from sessiond.sqlite.judge import Mode, Part
from sessiond.sqlite.meta import Meta
from sessiond.sqlite.schema_watch import SchemaWatch
from sessiond_protocol.schema import FTS_TRIGGERS

CrashPoint = Callable[[str], None]

_PAIRS_PREFIX: Final = "pair index "
_INDEX_MISSING: Final = "the index or its triggers are missing"


class IndexHealth:
    """Why the indexes cannot be trusted; empty texts: they can.

    ``text`` is what ``sessiond_meta.index_state`` holds, where readers see it.
    """

    def __init__(self, text: str) -> None:
        parts = [part for part in text.split("; ") if part]
        self.words = "; ".join(part for part in parts if not part.startswith(_PAIRS_PREFIX))
        self.pairs = "; ".join(part for part in parts if part.startswith(_PAIRS_PREFIX))

    @property
    def text(self) -> str:
        """Both reasons in one text."""
        return "; ".join(filter(None, (self.words, self.pairs)))

    def degrade(self, damage: IndexDamaged) -> None:
        """Note what was found, until the index is rebuilt."""
        reason = f"damaged ({damage.text})".replace(";", ",")
        if damage.index == PAIRS:
            self.pairs = _PAIRS_PREFIX + reason
        elif damage.index == WORDS or not self.words:
            self.words = reason


class WriteAccess:
    """Opens and commits transactions; knows the meta row, the schema and foreign commits.

    ``foreign_commits`` rises when another connection has committed since the last look.
    ``check_files`` returns what is wrong with the files, None if nothing is.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        clock: Callable[[], float],
        check_files: Callable[[], str | None],
        crash_point: CrashPoint,
    ) -> None:
        self.connection = connection
        # Before the schema is read: a change in between is then noticed by the next look.
        self._data_version: int = value(connection, "PRAGMA data_version")
        self.meta = Meta(connection)
        self.watch = SchemaWatch(connection, clock)
        self.health = IndexHealth(self.meta.committed.index_state)
        self.foreign_commits = 0
        self.crash_point = crash_point
        self._check_files = check_files
        self._judge_index()

    def reload(self) -> None:
        """Forget what was known of the file: its history changed by something else than commits."""
        self.meta.load()
        self.watch.own_change()
        self.health = IndexHealth(self.meta.committed.index_state)
        self.foreign_commits += 1
        self._judge_index()

    # --- looking ---------------------------------------------------------------------------

    def look(self) -> None:
        """Notice what other programs did since the last look, inside a transaction or not.

        Without a commit of another connection the schema is what it was.
        """
        data_version = value(self.connection, "PRAGMA data_version")
        if data_version == self._data_version:
            return
        if self.watch.inspect():
            self._judge_index()
        self._data_version = data_version
        self.foreign_commits += 1

    def _judge_index(self) -> None:
        if not self.words_are_followed and not self.health.words:
            self.health.words = _INDEX_MISSING

    @property
    def keeps_words(self) -> bool:
        """Whether this connection maintains ``messages_fts`` itself, and can."""
        return self.watch.verdict.mode is Mode.OURS and not self.health.words

    @property
    def triggers_run(self) -> bool:
        """Whether this connection leaves the index to another program's triggers."""
        return self.watch.verdict.mode is Mode.FOREIGN and not self.watch.suspended

    @property
    def words_are_followed(self) -> bool:
        """Whether everybody's changes reach ``messages_fts``, as far as names can tell."""
        verdict = self.watch.verdict
        if verdict.fts is Part.FOREIGN:
            return bool(verdict.foreign_triggers) or not verdict.missing_triggers
        return verdict.index_is_followed

    @property
    def may_rebuild_words(self) -> bool:
        """Whether ``messages_fts`` is ours to fill: our layout, and no trigger says otherwise."""
        verdict = self.watch.verdict
        return verdict.fts is Part.OURS and not any(
            name.lower() in FTS_TRIGGERS for name in verdict.foreign_triggers
        )

    def attributed(self, damage: IndexDamaged) -> IndexDamaged:
        """Damage that a batch has found, by the index that it can be.

        A batch has no statement for an index that is known to be damaged: it was the other one.
        """
        if damage.index == WORDS and not self.keeps_words and not self.triggers_run:
            return IndexDamaged(PAIRS, damage.text)
        return damage

    def index_damaged(self, damage: IndexDamaged) -> None:
        """Note damage that a rolled-back transaction has found."""
        self.health.degrade(damage)
        if damage.index == WORDS and self.triggers_run:
            self.watch.suspended = True

    # --- transactions ----------------------------------------------------------------------

    def begin(self) -> None:
        """Take the write lock and look around. ``apsw.BusyError``: another program has it."""
        self.connection.execute("BEGIN IMMEDIATE")
        self._alarm()
        self.meta.begin()
        self.look()

    def commit(self) -> None:
        """Write the meta row and commit.

        :class:`UnsafeFile`: the fate of the commit is unknown. Any other error: nothing was
        stored, roll back.
        """
        if self.triggers_run:
            with on_index(WORDS):
                # Virtual tables write out at a savepoint, else inside the commit.
                self.connection.execute("SAVEPOINT written")
                self.connection.execute("RELEASE written")
        self.meta.row.index_state = self.health.text
        self.meta.write()
        self.crash_point("before commit")
        try:
            self.connection.execute("COMMIT")
        except (apsw.FullError, apsw.ConstraintError, apsw.CorruptError):
            # The disk is full: the commit frame is written last, so nothing of it can come back.
            # The others come before the first frame.
            raise
        except apsw.Error as error:
            raise UnsafeFile(f"the fate of a commit is unknown: {error}") from error
        self.meta.absorb()
        self._alarm()
        self.crash_point("after commit")

    def rollback(self) -> None:
        """Take everything back."""
        if not self.connection.in_transaction:
            return
        try:
            self.connection.execute("ROLLBACK")
        except apsw.Error as error:
            raise UnsafeFile(f"a transaction cannot be rolled back: {error}") from error

    @contextmanager
    def working(self) -> Iterator[apsw.Connection]:
        """A transaction of the daemon's own, between batches."""
        try:
            self.begin()
            yield self.connection
            self.commit()
        except UnsafeFile:
            raise
        except BaseException:
            self.rollback()
            raise

    def _alarm(self) -> None:
        reason = self._check_files()
        if reason is not None:
            raise UnsafeFile(reason)
