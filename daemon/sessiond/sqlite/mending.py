"""Bringing what other programs changed into the tables that only sessiond knows.

Another program adds messages that the pair index has not seen and whose times nobody compared,
and its updates and deletes never reach the side tables. New rows are picked up by id, upwards
from ``cjk_cursor``; after a commit of another program one pass over all messages compares and
mends the rest.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import apsw
import msgspec

from sessiond.sqlite.access import WriteAccess
from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.cjk_index import add_pairs, drop_pairs, empty_pairs, pairs_of_bytes
from sessiond.sqlite.damage import WORDS, IndexDamaged, on_index
from sessiond.sqlite.disorder import NOTE, disordered
from sessiond.sqlite.migrations import REBUILD_NEEDED
from sessiond.sqlite.slices import HIGHEST, Pace, next_range
from sessiond_protocol.content import text_hash
from sessiond_protocol.schema import SIDE_TABLES

log = logging.getLogger("sessiond.mending")

# A program that commits all the time must not keep a pass running all the time.
PASS_INTERVAL: Final = 10.0
PASS_SHARE: Final = 20


class Difference(msgspec.Struct):
    """What does not fit the messages of one range of ids.

    ``strays`` and ``missing``: ids and texts of the pair index; a stale row is in both.
    ``content``: ids of structured content without its message or of another text. ``keys``:
    message keys whose message is gone. ``disordered``: sessions that should be noted as such.
    """

    strays: list[int] = []
    missing: dict[int, str] = {}
    content: list[int] = []
    keys: list[tuple[str, str]] = []
    disordered: list[str] = []

    @property
    def count(self) -> int:
        """How many things there are to mend."""
        pairs = self.missing.keys() | set(self.strays)
        return len(pairs) + len(self.content) + len(self.keys) + len(self.disordered)


def compare(connection: apsw.Connection, low: int, high: int) -> Difference:
    """What does not fit among the ids over ``low`` up to ``high``."""
    bounds = (low, high)
    wanted = {
        message_id: pairs
        for message_id, content in rows(
            connection,
            # Text without a letter beyond ASCII is not worth carrying over.
            "SELECT id, CAST(content AS BLOB) FROM messages WHERE id > ? AND id <= ?"
            " AND octet_length(content) <> length(CAST(content AS TEXT))",
            bounds,
        )
        if (pairs := pairs_of_bytes(content)) is not None
    }
    stored: dict[int, str] = dict(
        rows(
            connection,
            "SELECT message_id, pairs FROM sessiond_cjk WHERE message_id > ? AND message_id <= ?",
            bounds,
        )
    )
    return Difference(
        strays=[each for each, pairs in stored.items() if wanted.get(each) != pairs],
        missing={each: pairs for each, pairs in wanted.items() if stored.get(each) != pairs},
        content=_invalid_content(connection, bounds),
        keys=_invalid_keys(connection, bounds),
        disordered=disordered(connection, low, high),
    )


def _invalid_content(connection: apsw.Connection, bounds: tuple[int, int]) -> list[int]:
    return [
        message_id
        for message_id, stored_hash, text in rows(
            connection,
            "SELECT c.message_id, c.text_hash, CAST(m.content AS BLOB) FROM sessiond_content AS c"
            " LEFT JOIN messages AS m ON m.id = c.message_id"
            " WHERE c.message_id > ? AND c.message_id <= ?",
            bounds,
        )
        if text is None or text_hash(text.decode("utf-8", "replace")) != stored_hash
    ]


def _invalid_keys(connection: apsw.Connection, bounds: tuple[int, int]) -> list[Any]:
    return rows(
        connection,
        "SELECT k.session_id, k.key FROM sessiond_message_keys AS k"
        " LEFT JOIN messages AS m ON m.id = k.message_id AND m.session_id = k.session_id"
        " WHERE k.message_id > ? AND k.message_id <= ? AND m.id IS NULL",
        bounds,
    )


def _lacks_words(connection: apsw.Connection, bounds: tuple[int, int], *, ours: bool) -> bool:
    # Another program's index may leave out what has no text; ours holds every message.
    sql = (
        "SELECT (SELECT count(*) FROM messages WHERE id > ?1 AND id <= ?2)"
        " <> (SELECT count(*) FROM messages_fts_docsize WHERE id > ?1 AND id <= ?2)"
        if ours
        else "SELECT EXISTS (SELECT 1 FROM messages AS m WHERE id > ?1 AND id <= ?2"
        " AND content <> '' AND NOT EXISTS"
        " (SELECT 1 FROM messages_fts_docsize AS d WHERE d.id = m.id))"
    )
    try:
        return bool(value(connection, sql, bounds))
    except apsw.SQLError:
        return True  # an index that keeps no sizes, or none: nothing is known of it
    except apsw.CorruptError as error:
        # If it is the messages, rebuilding will tell.
        raise IndexDamaged(WORDS, str(error)) from error


def mend(connection: apsw.Connection, found: Difference, *, indexed: bool) -> None:
    """Put right what :func:`compare` found, inside the transaction it looked in."""
    drop_pairs(connection, found.strays, indexed=indexed)
    add_pairs(connection, found.missing, indexed=indexed)
    mend_tables(connection, found)


def mend_tables(connection: apsw.Connection, found: Difference) -> None:
    """The same for everything but the pair index."""
    connection.executemany(
        "DELETE FROM sessiond_content WHERE message_id = ?", [(each,) for each in found.content]
    )
    connection.executemany(
        "DELETE FROM sessiond_message_keys WHERE session_id = ? AND key = ?", found.keys
    )
    connection.executemany(NOTE, [(session_id,) for session_id in found.disordered])


class Mending:
    """Picks up rows above the cursor, and makes passes over everything below it."""

    def __init__(self, access: WriteAccess, clock: Callable[[], float]) -> None:
        self._access = access
        self._clock = clock
        self._pace = Pace(clock)
        self._seen = -1  # foreign commits, when the last pass began
        self._low: int | None = None  # where the pass stands, None between passes
        self._complete = True
        self._spent = 0.0
        self._next_pass = clock()
        self._looked = (-1, -1)
        self._highest = 0
        self._given_up = False  # until the next start
        self.passes = 0
        self.mended = 0

    def begin_again(self) -> None:
        """Another file has taken the place of the one that was known: nothing of it holds."""
        self._low, self._looked, self._given_up = None, (-1, -1), False

    def step(self) -> bool:
        """One slice, if there is anything to do; True if there is more."""
        started = self._clock()
        if self._access.health.pairs and not self._given_up:
            self._start_anew()
            return True
        if self._behind():
            self._pick_up()
            return True
        if self._low is None and not self._begin_pass(started):
            return False
        self._slice()
        self._spent += self._clock() - started
        return self._low is not None

    @property
    def behind(self) -> int:
        """How many ids have not been looked at, at most."""
        return max(0, self._highest - self._access.meta.committed.cjk_cursor)

    # --- the pair index ----------------------------------------------------------------------

    def _behind(self) -> bool:
        access = self._access
        now = (access.foreign_commits, access.meta.committed.commits)
        if self._looked != now:
            self._looked = now
            self._highest = value(access.connection, "SELECT max(id) FROM messages") or 0
        return self.behind > 0

    def _pick_up(self) -> None:
        access = self._access
        self._pace.start()
        with access.working() as connection:
            part = next_range(connection, access.meta.row.cjk_cursor, self._pace.budget)
            self._mend(connection, compare(connection, part.low, part.high))
            access.meta.row.cjk_cursor = part.high
        self._pace.done(part.cost)

    def _start_anew(self) -> None:
        access = self._access
        log.warning("the pair index is filled anew (%s)", access.health.pairs)
        reason = access.health.pairs
        try:
            with access.working() as connection:
                empty_pairs(connection, SIDE_TABLES["sessiond_cjk_fts"])
                access.meta.row.cjk_cursor = 0
                access.health.pairs = ""
        except BaseException as error:
            access.health.pairs = reason
            if isinstance(error, IndexDamaged):
                self._given_up = True
                log.error("the pair index cannot be removed (%s): search stays degraded", error)
            raise
        access.watch.own_change()

    # --- passes ------------------------------------------------------------------------------

    def _begin_pass(self, now: float) -> bool:
        if self._seen == self._access.foreign_commits or now < self._next_pass:
            return False
        self._seen = self._access.foreign_commits
        self._low, self._complete, self._spent = -HIGHEST - 1, True, 0.0
        self._access.watch.suspended = False
        return True

    def _slice(self) -> None:
        access, connection = self._access, self._access.connection
        assert self._low is not None
        self._pace.start()
        part = next_range(connection, self._low, self._pace.budget)
        high = HIGHEST if part.last else part.high
        if compare(connection, part.low, high).count:
            # What was read stands only under the write lock.
            with access.working():
                self._mend(connection, compare(connection, part.low, high))
        self._count_words(part.low, high)
        self._pace.done(part.cost)
        self._low = None if part.last else part.high
        if part.last:
            self._pass_ended()

    def _count_words(self, low: int, high: int) -> None:
        access = self._access
        if not self._complete or (access.health.words and access.may_rebuild_words):
            self._complete = False  # known, or about to be rebuilt
            return
        bounds, ours = (low, high), access.may_rebuild_words
        if not _lacks_words(access.connection, bounds, ours=ours):
            return
        with access.working() as connection:
            if _lacks_words(connection, bounds, ours=ours):
                self._complete = False
                if not access.health.words:
                    access.health.words = REBUILD_NEEDED
                    log.warning("the search index does not hold every message")

    def _pass_ended(self) -> None:
        access = self._access
        self.passes += 1
        self._next_pass = self._clock() + max(PASS_INTERVAL, PASS_SHARE * self._spent)
        if self._complete and access.words_are_followed and access.health.words:
            # Another program's index is whole again, if it can be asked; ours is rebuilt instead.
            with on_index(WORDS):
                rows(
                    access.connection, f"SELECT rowid FROM {WORDS} WHERE {WORDS} MATCH 'a' LIMIT 1"
                )
            access.health.words = ""

    def _mend(self, connection: apsw.Connection, found: Difference) -> None:
        mend(connection, found, indexed=not self._access.health.pairs)
        self.mended += found.count
