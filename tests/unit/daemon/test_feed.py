"""The order in which the feed tells what was committed, and whose commits are another's."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sessiond import feed
from sessiond_protocol.requests.feed import FOREIGN, Event, Events
from sessiond_protocol.requests.session import (
    SessionCreate,
    SessionDelete,
    SessionEnd,
    SessionSetTitle,
)
from tests.unit.daemon.stores import (
    Opened,
    appending,
    foreign,
    foreign_message,
    opened,
    works,
)


def row(message_id: int) -> dict[str, Any]:
    return {"id": message_id, "session_id": "s"}


def kinds(rows: list[dict[str, Any]], events: list[feed.Placed]) -> list[str]:
    return [
        str(event.message["id"]) if event.message else event.kind
        for event in feed._in_order(rows, events)
    ]


def test_events_stand_between_the_messages_of_their_time() -> None:
    created, titled, ended = map(Event, ("session_created", "session_titled", "session_ended"))
    events = [(4, created), (5, titled), (7, ended)]
    assert kinds([row(5), row(6), row(7), row(8)], events) == [
        "session_created", "5", "session_titled", "6", "7", "session_ended", "8",
    ]  # fmt: skip
    assert kinds([], events) == ["session_created", "session_titled", "session_ended"]
    assert kinds([row(9)], []) == ["9"]


def test_events_of_one_batch_keep_their_order() -> None:
    events = [(5, Event("session_ended")), (5, Event("session_reopened"))]
    assert kinds([row(5)], events) == ["5", "session_ended", "session_reopened"]


# --- whose commit it was -----------------------------------------------------------------------


class Fed:
    """A feed that is turned by hand, one watcher, and a writer that runs errands when told."""

    closed = writing_paused = False

    def __init__(self, file: Opened) -> None:
        self._events: list[Event] = []
        self._errands: list[Callable[[], None]] = []
        store = file.store
        self.feed = feed.Feed(
            str(file.path), store.generation, self._take, store, self._errands.append
        )
        self.reader = feed._FeedReader(str(file.path))
        self.feed.subscribe(self, None, None, None, resumed=False)
        self.told()

    def _take(self, _watcher: object, data: bytes) -> None:
        _, _, (events,) = msgspec.msgpack.decode(data)
        self._events += msgspec.convert(events, Events).events

    def told(self) -> list[tuple[str, str | None]]:
        """What the watcher hears of, when nothing is left to do."""
        self._turn()
        while self._errands:
            self._errands.pop()()
            self._turn()
        events, self._events[:] = list(self._events), []
        return [(event.kind, event.text) for event in events]

    def _turn(self) -> None:
        self.feed._dirty = True
        self.feed._turn(self.reader)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("s", "one")
        yield made


@pytest.fixture
def fed(file: Opened, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fed]:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.0)
    made = Fed(file)
    yield made
    made.reader.close()


def test_own_commits_are_nobody_elses_before_and_without_being_told_of(
    file: Opened, fed: Fed
) -> None:
    file.apply(SessionCreate(session_id="t", source="test", started_at=1.0))
    assert fed.told() == []  # the writer has committed, and comes to the feed a moment later
    with file.store.access.working() as connection:
        connection.execute("UPDATE sessions SET title = 'x' WHERE id = 's'")
    assert fed.told() == []
    file.rows("VACUUM")
    assert fed.told() == []


def test_another_programs_commit_is_told_of_once(file: Opened, fed: Fed) -> None:
    with foreign(file.path) as other:
        other.execute("UPDATE sessions SET title = 'x'")
        assert fed.told() == [("sessions_changed", FOREIGN)]
        assert fed.told() == []
        # Between two commits of ours, which the feed sees all three at once.
        file.apply(SessionCreate(session_id="t", source="test", started_at=1.0))
        other.execute("UPDATE sessions SET title = 'y' WHERE id = 's'")
        file.apply(SessionDelete(session_id="t"))
        assert fed.told() == [("sessions_changed", FOREIGN)]
        # After the last of ours.
        file.apply(SessionCreate(session_id="t", source="test", started_at=1.0))
        other.execute("UPDATE sessions SET title = 'z' WHERE id = 's'")
        assert fed.told() == [("sessions_changed", FOREIGN)]
        foreign_message(other, "s", "two")
        assert sorted(fed.told(), key=str) == [("message", None), ("sessions_changed", FOREIGN)]


def test_what_was_noticed_before_anybody_watched_is_not_told(file: Opened, fed: Fed) -> None:
    fed.feed.forget(fed)
    with foreign(file.path) as other:
        other.execute("UPDATE sessions SET title = 'x'")
    file.store.look()
    fed.feed.subscribe(fed, None, None, None, resumed=False)
    assert fed.told() == []


# --- what is committed meanwhile ---------------------------------------------------------------


class Interrupted:
    """A feed's reader; before one of its calls, counted from 0, something happens."""

    def __init__(self, reader: Any, moment: int, happens: Callable[[], None]) -> None:
        self._reader = reader
        self._left = moment
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        if self._left == 0:
            self._happens()
        self._left -= 1
        return getattr(self._reader, name)


def commit(file: Opened, fed: Fed, *requests: Any) -> None:
    """Apply each in a batch of its own, and tell the feed as the writer does."""
    for request in requests:
        applied = file.store.apply(works(request))
        fed.feed.committed(applied.last_message_id, applied.events)


@pytest.mark.parametrize("session_id", [None, "t"])
@pytest.mark.parametrize("moment", range(10))
def test_a_message_is_never_told_of_before_what_was_committed_before_it(
    file: Opened, fed: Fed, moment: int, session_id: str | None
) -> None:
    fed.feed.forget(fed)
    fed.feed.subscribe(fed, session_id, None, None, resumed=False)
    fed.told()
    commit(file, fed, SessionEnd(session_id="s", end_reason="done", ended_at=2.0))
    happened: list[bool] = []

    def meanwhile() -> None:
        happened.append(True)
        created = SessionCreate(session_id="t", source="test", started_at=1.0)
        titled = SessionSetTitle(session_id="t", title="A title")
        commit(file, fed, created, appending("t", "hello"), titled)

    reader = fed.reader
    fed.reader = Interrupted(reader, moment, meanwhile)  # type: ignore[assignment]
    told = fed.told() + fed.told()
    fed.reader = reader
    if not happened:  # two turns have fewer calls
        meanwhile()
    told += fed.told()
    kinds = [kind for kind, _ in told if kind != "session_ended"]
    assert kinds == ["session_created", "message", "session_titled"]
