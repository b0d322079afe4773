"""The feed: what is committed, pushed to those who watch.

SQLite has one writer and message ids never repeat, so the order of ids is the order of commits,
and the feed is a range read ``id > cursor ORDER BY id`` on a snapshot taken after the commit. A
subscriber that does not keep up is not fed; it goes on from its own cursor when it can.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import apsw

from sessiond.database import Database
from sessiond_protocol import wire
from sessiond_protocol.queries import facts as schema_facts
from sessiond_protocol.queries import messages
from sessiond_protocol.requests.feed import AWAY, BEHIND, EVENTS_METHOD, FOREIGN, Event, Events

log = logging.getLogger("sessiond.feed")

PAGE: Final = 200
# Of a watched session's new messages, how many ids of all sessions are looked through at most.
_IN_PASSING: Final = 1_000
POLL_SECONDS: Final = 0.25  # how soon a commit of another program is noticed
_REMOVALS: Final = frozenset({"session_deleted", "messages_replaced", "messages_cleared"})
RETRY_SECONDS: Final = 0.05  # how soon a watcher whose socket was full is tried again


# An event, and the highest message id when its batch was committed.
Placed = tuple[int, Event]


class Watcher(Protocol):
    """The connection that a subscription belongs to."""

    closed: bool
    writing_paused: bool


class Subscription:
    """One watcher's place in the feed. Only the feed's thread changes ``cursor``."""

    __slots__ = ("behind", "cursor", "first", "number", "session_id", "watcher")

    def __init__(
        self,
        number: int,
        watcher: Watcher,
        session_id: str | None,
        cursor: int,
        first: list[Event],
    ) -> None:
        self.number = number
        self.watcher = watcher
        self.session_id = session_id
        self.cursor = cursor
        self.first = first  # what it is told before anything else
        self.behind = False


class Feed:
    """Reads what was committed and sends it to every subscription, on a thread of its own.

    ``send`` hands a notification's bytes to a watcher, from this thread. ``generation`` is the
    file's, as of its opening. To this thread's connection the daemon's own commits are
    anybody's. The connection of ``database`` makes all of them, so that it notices only those
    of others; ``errand`` has it look, on the writer's thread.
    """

    def __init__(
        self,
        path: str,
        generation: bytes,
        send: Callable[[Watcher, bytes], None],
        database: Database,
        errand: Callable[[Callable[[], None]], None],
    ) -> None:
        self._path = path
        self.generation = generation
        self._send = send
        self._database = database
        self._errand = errand
        self._told_of = database.foreign_commits
        self._unsure = False  # somebody committed, and the writer was not asked since
        self._asked_at = float("-inf")
        self._changed = threading.Condition()
        self._events: list[Placed] = []
        self._rows: tuple[int, int] | None = None  # an id, and how many rows there were up to it
        self._last_id = 0
        self._dirty = False
        self._lagging = False  # a watcher's socket is full: look again soon
        self._stopped = False
        self._era = 0  # rises with every history that takes the file's place
        self._subscriptions: dict[int, Subscription] = {}
        self._numbers = itertools.count(1)
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._ready = threading.Event()

    # --- the event loop's and the writer's side --------------------------------------------

    def start(self) -> None:
        """Start the thread; returns when it knows where the feed begins."""
        self._thread.start()
        self._ready.wait(10.0)

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(5.0)

    def committed(self, last_message_id: int, events: list[Event]) -> None:
        """A batch was committed. Called by the writer; costs nothing while nobody watches."""
        if last_message_id > self._last_id:
            self._last_id = last_message_id
        if not self._subscriptions:
            return
        with self._changed:
            self._events += [(self._last_id, event) for event in events]
            self._dirty = True
            self._changed.notify()

    def _look(self) -> None:
        """Whether another program has committed; on the writer's thread."""
        self._database.look()
        with self._changed:
            self._dirty = True
            self._changed.notify()

    def begin_again(self, generation: bytes, last_message_id: int) -> None:
        """Another history has taken the file's place: whoever watches has to subscribe again.

        Called by the writer, before anybody is answered from the new one.
        """
        with self._changed:
            self._era += 1
            self.generation = generation
            self._last_id = last_message_id
            self._rows = None
            self._events.clear()
            self._subscriptions.clear()

    def subscribe(
        self,
        watcher: Watcher,
        session_id: str | None,
        after: int | None,
        generation: bytes | None,
        resumed: bool,
    ) -> Subscription:
        """Add a subscription; it is fed from its cursor on. ``after`` None: from now on."""
        first: list[Event] = []
        if after is not None and generation is not None and generation != self.generation:
            first.append(Event("feed_reset"))
            after = None
        elif resumed:
            first.append(Event("sessions_changed", text=AWAY))
        cursor = self._last_id if after is None else after
        with self._changed:
            if not self._subscriptions:
                self._told_of = self._database.foreign_commits
            added = Subscription(next(self._numbers), watcher, session_id, cursor, first)
            self._subscriptions[added.number] = added
            self._dirty = True
            self._changed.notify()
        return added

    def unsubscribe(self, number: int, watcher: Watcher) -> bool:
        """Remove a watcher's subscription; False if it has none of this number."""
        with self._changed:
            found = self._subscriptions.get(number)
            if found is None or found.watcher is not watcher:
                return False
            del self._subscriptions[number]
            return True

    def forget(self, watcher: Watcher) -> None:
        """Remove everything of a connection that is gone."""
        with self._changed:
            for number in [n for n, s in self._subscriptions.items() if s.watcher is watcher]:
                del self._subscriptions[number]

    @property
    def watched(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    # --- the feed's thread -----------------------------------------------------------------

    def _run(self) -> None:
        reader = _FeedReader(self._path)
        self._last_id = reader.last_id()
        self._ready.set()
        while not self._stopped:
            try:
                self._turn(reader)
            except apsw.Error as error:
                log.warning("the feed cannot read: %s", error)
                time.sleep(POLL_SECONDS)
        reader.close()

    def _turn(self, reader: "_FeedReader") -> None:
        with self._changed:
            if not self._dirty and not self._stopped:
                patience = RETRY_SECONDS if self._lagging else POLL_SECONDS
                self._changed.wait(patience if self._subscriptions else None)
            self._lagging = self._dirty = False
            watched, era, before = bool(self._subscriptions), self._era, self._last_id
            if not watched:
                self._events.clear()
        if not watched or self._stopped:
            self._rows = None
            return
        # The messages that are told of now are settled before the events are taken: what was
        # committed before one of them is then among those.
        boundary = max(before, reader.last_id())
        with self._changed:
            if era != self._era:
                return  # these subscriptions are of another history
            self._last_id = max(self._last_id, boundary)
            subscriptions = list(self._subscriptions.values())
            events = [placed for placed in self._events if placed[0] <= boundary]
            del self._events[: len(events)]
        if self._foreign_was_noticed(reader):
            _tell_of_foreign_commit(reader, subscriptions, self._has_older_rows(reader))
            self._rows = None
        if self._rows is None or any(event.kind in _REMOVALS for _, event in events):
            self._rows = (self._last_id, reader.count(self._last_id))
        for subscription in subscriptions:
            self._feed(reader, subscription, events, boundary)

    def _foreign_was_noticed(self, reader: "_FeedReader") -> bool:
        """Whether another program has committed; if nobody knows yet, have the writer look."""
        self._unsure = reader.changed() or self._unsure
        now = time.monotonic()
        if self._unsure and now - self._asked_at >= POLL_SECONDS:
            self._unsure, self._asked_at = False, now
            self._errand(self._look)
        before, self._told_of = self._told_of, self._database.foreign_commits
        return self._told_of != before

    def _has_older_rows(self, reader: "_FeedReader") -> bool:
        """Whether rows were added at ids that had gone by: no range read would meet them."""
        if self._rows is None:
            return False
        highest, count = self._rows
        return reader.count(highest) > count

    def _feed(
        self,
        reader: "_FeedReader",
        subscription: Subscription,
        events: list[Placed],
        boundary: int,
    ) -> None:
        """Send what is new to one subscription, as far as its connection takes it.

        Messages with ids over ``boundary`` are left to the next turn.
        """
        wanted = [
            (place, event)
            for place, event in events
            if subscription.session_id is None or event.session_id == subscription.session_id
        ]
        while not subscription.watcher.closed:
            if subscription.watcher.writing_paused:
                subscription.behind = subscription.behind or bool(wanted)
                self._lagging = True
                return
            first, subscription.first = subscription.first, []
            if subscription.behind:
                subscription.behind = False
                first.append(Event("sessions_changed", text=BEHIND))
            rows, cursor, more = reader.page(subscription.cursor, boundary, subscription.session_id)
            if not (first or rows or wanted or cursor > subscription.cursor):
                return
            due = [each for each in wanted if not more or each[0] <= cursor]
            wanted = wanted[len(due) :]
            subscription.cursor = cursor
            batch = Events(subscription.number, [*first, *_in_order(rows, due)], cursor)
            self._send(subscription.watcher, wire.notification(EVENTS_METHOD, batch))
            if not more:
                return


def _in_order(rows: list[dict[str, Any]], events: list[Placed]) -> list[Event]:
    """Messages and other events in commit order; within one batch messages come first."""
    told = [(row["id"], Event("message", row["session_id"], message=row)) for row in rows]
    # Stable: what has the same place stays behind the message that has it.
    return [event for _, event in sorted([*told, *events], key=lambda each: each[0])]


def _tell_of_foreign_commit(
    reader: "_FeedReader", subscriptions: list[Subscription], older_rows: bool
) -> None:
    """Another program committed: ids may have been taken back, sessions may have changed."""
    highest = max(reader.last_id(), reader.sequence())
    for subscription in subscriptions:
        if older_rows or highest < subscription.cursor:
            subscription.first.append(Event("feed_reset"))
            subscription.cursor = min(highest, subscription.cursor)
        else:
            subscription.first.append(Event("sessions_changed", text=FOREIGN))


class _FeedReader:
    """The feed's own read-only connection."""

    def __init__(self, path: str) -> None:
        self._connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        self._connection.set_busy_timeout(1000)
        self._facts = schema_facts.read_facts(self._connection)
        self._version = self._value("PRAGMA data_version")

    def _value(self, sql: str) -> Any:
        return self._connection.execute(sql).fetchall()[0][0]

    def changed(self) -> bool:
        """Whether anybody committed since this was last asked."""
        version = self._value("PRAGMA data_version")
        changed = version != self._version
        self._version = version
        return bool(changed)

    def last_id(self) -> int:
        """The highest message id."""
        return int(self._value("SELECT coalesce(max(id), 0) FROM messages"))

    def count(self, up_to: int) -> int:
        """How many messages have ids up to this one."""
        return int(self._value(f"SELECT count(*) FROM messages WHERE id <= {int(up_to)}"))

    def sequence(self) -> int:
        """The highest message id that was ever given."""
        sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages'"
        return int(self._value(sql))

    def page(
        self, after: int, up_to: int, session_id: str | None
    ) -> tuple[list[dict[str, Any]], int, bool]:
        """Rows over ``after`` up to ``up_to``, the cursor behind them, and whether more follow."""
        if self._facts.cookie != schema_facts.schema_cookie(self._connection):
            self._facts = schema_facts.read_facts(self._connection)
        if session_id is None:
            found = messages.committed(self._connection, self._facts, after, limit=PAGE)
        else:
            found = self._of_session(session_id, after, up_to)
        rows = [row for row in found if row["id"] <= up_to]
        if len(rows) == PAGE:
            return rows, rows[-1]["id"], True
        if session_id is None:
            return rows, rows[-1]["id"] if rows else after, False
        return rows, max(after, up_to), False

    def _of_session(self, session_id: str, after: int, up_to: int) -> list[dict[str, Any]]:
        # What was just committed is read in passing, without looking at the whole session.
        connection, facts = self._connection, self._facts
        if up_to - after <= _IN_PASSING:
            return messages.committed(connection, facts, after, up_to, PAGE, session_id)
        return messages.page(connection, facts, session_id, after, PAGE)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
