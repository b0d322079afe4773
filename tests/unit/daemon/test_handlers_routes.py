"""Routes by compare-and-swap: all of a put, or nothing; marks of transcripts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.sqlite.batch import Batch, Index
from sessiond.sqlite.handlers import HANDLERS
from sessiond.sqlite.transaction import decode_item
from sessiond_protocol import schema
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.queries.dispatch import Reader
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.feed import Event
from sessiond_protocol.requests.message import (
    NOT_REPLACED,
    Message,
    MessageAppend,
    MessageClear,
    MessageReplace,
    Unchanged,
)
from sessiond_protocol.requests.route import (
    MAX_IMPORTED,
    ImportedRoute,
    Route,
    RoutedSession,
    RouteGet,
    RouteImport,
    RouteList,
    RoutePlaced,
    RoutePut,
    SessionEnding,
    SessionSeveral,
    SessionTotals,
    Transcript,
    TranscriptState,
)
from sessiond_protocol.requests.session import (
    SessionCreate,
    SessionDelete,
    SessionEnd,
    SessionEnsure,
    SessionGet,
    SessionUpdateTokens,
)


class NoIndex(Index):
    """These requests touch no search index but that of the messages they replace."""

    def added(self, batch: Batch, message_id: int, content: str | None) -> None:
        pass

    def removing_session(self, batch: Batch, session_id: str) -> None:
        pass

    def flush(self, batch: Batch) -> None:
        pass


class File:
    """A database file with one endless batch."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.batch = Batch(connection, NoIndex())
        self._reader = Reader(connection)

    def __call__(self, request: Request[Any]) -> Any:
        handler = HANDLERS.get(type(request))
        return handler(self.batch, request) if handler else self._reader.answer(request)

    def session(self, session_id: str) -> Any:
        return self(SessionGet(session_id=session_id))

    def events(self) -> list[Event]:
        events, self.batch.events = self.batch.events, []
        return events

    def refused(self, request: Request[Any]) -> Failure:
        """The failure of a request that must leave no mark."""
        mark, events = self.batch.mark, len(self.batch.events)
        with pytest.raises(Failure) as caught:
            self(request)
        assert (self.batch.mark, len(self.batch.events)) == (mark, events)
        return caught.value


@contextmanager
def in_memory() -> Iterator[File]:
    connection = apsw.Connection(":memory:")
    try:
        for statement in schema.statements():
            connection.execute(statement)
        yield File(connection)
    finally:
        connection.close()


@pytest.fixture
def file() -> Iterator[File]:
    with in_memory() as file:
        yield file


NEW = RoutedSession(mode="new", source="telegram", user_id="u", started_at=5.0)


def put(**changes: Any) -> RoutePut:
    """A put of the first route, with changes."""
    first = RoutePut(
        session_key="k",
        expected_version=0,
        expected_session_id=None,
        session_id="a",
        updated_at=7.0,
        entry='{"n":1}',
        session=NEW,
    )
    return msgspec.structs.replace(first, **changes)


def moved(**changes: Any) -> RoutePut:
    """A put that moves the route from ``a`` to ``b``."""
    second = put(
        expected_version=1,
        expected_session_id="a",
        session_id="b",
        end=SessionEnding(reason="session_reset", at=9.0),
    )
    return msgspec.structs.replace(second, **changes)


ROUTE = Route(session_key="k", session_id="a", version=1, updated_at=7.0, entry='{"n":1}')


def test_the_first_put_makes_the_session_and_the_route(file: File) -> None:
    assert file(RouteGet(session_key="k")) is None
    assert file(put()) == RoutePlaced(applied=True, version=1)
    assert file(RouteGet(session_key="k")) == ROUTE
    session = file.session("a")
    assert (session["source"], session["user_id"], session["started_at"]) == ("telegram", "u", 5.0)
    assert file.events() == [Event("session_created", "a")]


def test_a_later_put_moves_the_route_and_ends_the_session_it_left(file: File) -> None:
    file(put())
    file.events()
    assert file(moved()) == RoutePlaced(applied=True, version=2)
    assert file(RouteGet(session_key="k")).session_id == "b"
    assert (file.session("a")["ended_at"], file.session("a")["end_reason"]) == (
        9.0,
        "session_reset",
    )
    assert file.session("b")["ended_at"] is None
    assert file.events() == [
        Event("session_created", "b"),
        Event("session_ended", "a", text="session_reset"),
    ]


def test_a_reason_that_a_session_ended_for_stays(file: File) -> None:
    file(put())
    file(SessionEnd(session_id="a", end_reason="compression", ended_at=8.0))
    file(moved())
    assert (file.session("a")["ended_at"], file.session("a")["end_reason"]) == (8.0, "compression")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"expected_version": 2, "expected_session_id": "a"},
        {"expected_version": 1, "expected_session_id": "b"},
        {"expected_version": 1, "expected_session_id": None},
        {"expected_version": 0, "expected_session_id": "a"},
    ],
)
def test_whoever_expects_another_row_gets_the_row_and_changes_nothing(
    file: File, changes: dict[str, Any]
) -> None:
    file(put())
    mark = file.batch.mark
    # Refusals of the request itself come later: a retry decides anew from what it finds.
    answer = file(put(**{"session_id": "a", **changes}))
    assert answer == RoutePlaced(applied=False, version=1, route=ROUTE)
    assert file.batch.mark == mark


def test_whoever_expects_a_row_where_there_is_none_is_told_so(file: File) -> None:
    answer = file(put(expected_version=3, expected_session_id="a"))
    assert answer == RoutePlaced(applied=False, version=0, route=None)
    assert file.session("a") is None


def test_a_new_session_must_not_exist(file: File) -> None:
    file(SessionEnsure(session_id="a", started_at=1.0))
    failure = file.refused(put())
    assert (failure.code, failure.message) == (Code.CONFLICT, "session 'a' exists already")


def test_an_existing_session_must_exist(file: File) -> None:
    failure = file.refused(put(session=RoutedSession(mode="existing")))
    assert (failure.code, failure.message) == (Code.NOT_FOUND, "session 'a' does not exist")


@pytest.mark.parametrize(
    "request_",
    [put(end=SessionEnding(reason="r", at=1.0), session_key="other"), moved(session_id="a")],
)
def test_only_a_session_that_is_left_can_be_ended(file: File, request_: RoutePut) -> None:
    file(put())
    assert file.refused(request_).code == Code.INVALID_PARAMS


def test_an_existing_session_is_reopened_and_otherwise_left_as_it_is(file: File) -> None:
    file(put())
    file(SessionCreate(session_id="b", source="cli", started_at=1.0))
    file(SessionEnd(session_id="b", end_reason="done", ended_at=2.0))
    before = file.session("b")
    file.events()
    file(moved(session=RoutedSession(mode="existing"), reopen=True))
    assert file.session("b") == before | {"ended_at": None, "end_reason": None}
    assert [event.kind for event in file.events()] == ["session_reopened", "session_ended"]


def touch(**changes: Any) -> RoutePut:
    same = put(expected_version=1, expected_session_id="a", updated_at=8.0)
    session = RoutedSession(mode="ensure", source="telegram", user_id="u", started_at=8.0)
    return msgspec.structs.replace(same, session=session, **changes)


def test_a_touch_leaves_the_session_alone(file: File) -> None:
    file(put())
    before = file.session("a")
    assert file(touch()).version == 2
    assert file.session("a") == before
    assert file(RouteGet(session_key="k")).updated_at == 8.0


def test_a_session_whose_row_is_gone_gets_it_back(file: File) -> None:
    file(put())
    file(SessionDelete(session_id="a"))
    file(touch())
    assert file.session("a")["started_at"] == 8.0


def test_a_bare_session_is_filled_in(file: File) -> None:
    file(SessionEnsure(session_id="a", started_at=1.0))
    file(put(session=RoutedSession(mode="ensure", source="telegram", user_id="u", started_at=5.0)))
    session = file.session("a")
    assert (session["source"], session["user_id"], session["started_at"]) == ("telegram", "u", 1.0)


def test_totals_are_set_and_what_is_not_given_stays(file: File) -> None:
    file(put())
    file(SessionUpdateTokens(session_id="a", at=1.0, input_tokens=9, reasoning_tokens=4, model="m"))
    totals = SessionTotals(
        output_tokens=2, estimated_cost_usd=0.5, model="other", billing_provider="p"
    )
    file(touch(totals=totals))
    session = file.session("a")
    assert (session["input_tokens"], session["output_tokens"], session["reasoning_tokens"]) == (
        9,
        2,
        4,
    )
    assert session["estimated_cost_usd"] == 0.5
    assert (session["model"], session["billing_provider"]) == ("m", "p")


def imported(number: int, **changes: Any) -> ImportedRoute:
    route = ImportedRoute(
        session_key=f"k{number}",
        session_id=f"s{number}",
        updated_at=1.0,
        entry="{}",
        source="slack",
        user_id="u",
        started_at=2.0,
    )
    return msgspec.structs.replace(route, **changes)


def test_an_import_takes_only_keys_without_a_route(file: File) -> None:
    file(put(session_key="k1"))
    taken = file(RouteImport(routes=[imported(1), imported(2), imported(2, session_id="late")]))
    assert taken == ["k2"]
    assert file(RouteGet(session_key="k1")).session_id == "a"
    assert file(RouteGet(session_key="k2")).version == 1
    assert file.session("s1") is None
    assert file.session("late") is None
    session = file.session("s2")
    assert (session["source"], session["started_at"]) == ("slack", 2.0)
    assert file(RouteImport(routes=[imported(2)])) == []


def test_an_import_is_bounded() -> None:
    too_many = msgspec.msgpack.encode(RouteImport(routes=[imported(0)] * (MAX_IMPORTED + 1)))
    with pytest.raises(Failure, match=f"<= {MAX_IMPORTED}"):
        decode_item("route.import", too_many)


def test_a_put_cannot_be_one_of_several_writes() -> None:
    # One that is not applied is no failure, so that the others would be applied without it.
    with pytest.raises(Failure, match=r"any write except batch\.apply and route\.put") as caught:
        decode_item("route.put", msgspec.msgpack.encode(put()))
    assert caught.value.code == Code.INVALID_PARAMS


def test_routes_are_listed_by_key_page_by_page(file: File) -> None:
    file(RouteImport(routes=[imported(number) for number in range(5)]))
    first = file(RouteList(limit=3))
    assert [route.session_key for route in first] == ["k0", "k1", "k2"]
    rest = file(RouteList(after_key="k2"))
    assert [route.session_key for route in rest] == ["k3", "k4"]


def test_several_sessions_are_more_than_one_that_was_ever_created(file: File) -> None:
    assert file(SessionSeveral()) is False
    file(SessionEnsure(session_id="a", started_at=1.0))
    assert file(SessionSeveral()) is False
    file(SessionEnsure(session_id="b", started_at=1.0))
    assert file(SessionSeveral()) is True
    file(SessionDelete(session_id="a"))
    assert file(SessionSeveral()) is True


# --- transcripts -------------------------------------------------------------------------------


def message(text: str, **fields: Any) -> Message:
    return Message(role="user", content=text, timestamp=1.0, **fields)


def test_a_replacement_may_mark_the_transcript(file: File) -> None:
    file(SessionEnsure(session_id="a", started_at=1.0))
    file(MessageReplace(session_id="a", messages=[message("x")]))
    assert file(TranscriptState(session_id="a")) == Transcript(1, False)
    for _ in range(2):
        file(MessageReplace(session_id="a", messages=[message("y")], mark_transcript=True))
        assert file(TranscriptState(session_id="a")) == Transcript(1, True)
    file(MessageReplace(session_id="a", messages=[]))
    assert file(TranscriptState(session_id="a")) == Transcript(0, True)


def test_a_mark_goes_with_its_session(file: File) -> None:
    file(SessionEnsure(session_id="a", started_at=1.0))
    file(MessageReplace(session_id="a", messages=[], mark_transcript=True))
    file(SessionDelete(session_id="a"))
    file(SessionEnsure(session_id="a", started_at=1.0))
    assert file(TranscriptState(session_id="a")) == Transcript(0, False)


writes = st.lists(st.sampled_from(["append", "clear", "mark", "replace"]), max_size=4)


@given(before=writes, unmarked=st.booleans(), count=st.integers(0, 3))
def test_a_replacement_prepared_for_another_state_changes_nothing(
    before: list[str], unmarked: bool, count: int
) -> None:
    with in_memory() as file:
        file(SessionEnsure(session_id="a", started_at=1.0))
        known = 0
        marked = False
        for write in before:
            if write == "append":
                file(MessageAppend(session_id="a", message=message("old")))
                known += 1
            elif write == "clear":
                file(MessageClear(session_id="a"))
                known = 0
            else:
                is_mark = write == "mark"
                file(MessageReplace(session_id="a", messages=[], mark_transcript=is_mark))
                known, marked = 0, marked or is_mark
        state = Unchanged(unmarked=unmarked, message_count=count)
        mark = file.batch.mark
        stored = file(MessageReplace(session_id="a", messages=[message("new")], only_if=state))
        if count == known and not (unmarked and marked):
            assert stored == 1
        else:
            assert stored == NOT_REPLACED
            assert file.batch.mark == mark
            assert file(TranscriptState(session_id="a")) == Transcript(known, marked)
