"""Reads in the order of ids come out the same, whichever way the index is used for them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond_protocol.queries import messages, sessions
from sessiond_protocol.queries.facts import Facts, read_facts
from sessiond_protocol.search.neighbours import contexts
from tests.unit.protocol.filled import Recorded, add_message, add_session, fresh


class Said(NamedTuple):
    """A message; its text is its id."""

    session: str
    role: str
    timestamp: float | str
    active: int


# Another program may store a text as a time; it sorts after every number.
times = st.integers(0, 3).map(float) | st.sampled_from((9.0, "later", -9e300))
said = st.builds(
    Said, st.sampled_from("ab"), st.sampled_from(("user", "assistant")), times, st.integers(0, 1)
)
rising = st.lists(said, max_size=12).map(
    lambda them: [each._replace(timestamp=float(at // 3)) for at, each in enumerate(them)]
)
transcripts = st.lists(said, max_size=12) | rising
# In each session they rise, but not from one session's message to the other's.
apart = [Said("b", "user", 9.0, 1), Said("a", "user", 1.0, 1), Said("a", "user", 2.0, 1)]
# What the daemon has said of the order so far.
STATES = ("looked at", "marked without need", "not looked at yet", "no daemon", "no index", "newer")
states = st.sampled_from(STATES)


def _order(message: Said) -> tuple[bool, Any]:
    return isinstance(message.timestamp, str), message.timestamp


def _disordered(transcript: list[Said]) -> set[str]:
    newest: dict[str, Said] = {}
    found = set()
    for each in transcript:
        if _order(each) < _order(newest.setdefault(each.session, each)):
            found.add(each.session)
        else:
            newest[each.session] = each
    return found


@contextmanager
def stored(transcript: list[Said], state: str) -> Iterator[sqlite3.Connection]:
    with fresh(side_tables=state != "no daemon", active=state == "newer") as connection:
        for session in "ab":
            add_session(connection, session, 0.5)
        for number, each in enumerate(transcript, 1):
            more: dict[str, Any] = {"active": each.active} if state == "newer" else {}
            add_message(
                connection, each.session, str(number), each.role, each.timestamp, **more  # type: ignore[arg-type]
            )  # fmt: skip
        if state == "no index":
            connection.execute("DROP INDEX idx_messages_session")
        if state != "no daemon":
            cursor = 0 if state == "not looked at yet" else len(transcript)
            connection.execute(
                "INSERT INTO sessiond_meta (id, generation, cjk_cursor) VALUES (1, x'00', ?)",
                (cursor,),
            )
            marked = _disordered(transcript[:cursor])
            if state == "marked without need":
                marked = set("ab")
            for session in marked:
                connection.execute("INSERT INTO sessiond_disorder VALUES (?)", (session,))
        yield connection


def _shown(transcript: list[Said], session: str, state: str) -> list[int]:
    return [
        number
        for number, each in enumerate(transcript, 1)
        if each.session == session and (state != "newer" or each.active)
    ]


@given(transcripts, states, st.integers(0, 13), st.integers(0, 6), st.integers(0, 3))
@example(apart, "looked at", 1, 6, 0)
def test_pages(transcript: list[Said], state: str, after: int, limit: int, offset: int) -> None:
    with stored(transcript, state) as connection:
        facts = read_facts(connection)
        rows = messages.conversation(connection, facts, "a", after, limit, offset)
        bounded, more = messages.bounded_page(
            connection, facts, "a", after, limit, offset, active_only=True
        )
        everything = messages.page(connection, facts, "a", after)
        committed = messages.committed(connection, facts, after, session_id="a")
    wanted = [each for each in _shown(transcript, "a", state) if each > after][offset:]
    assert [row["id"] for row in rows] == wanted[:limit]
    assert ([row["id"] for row in bounded], more) == (wanted[:limit], len(wanted) > limit)
    of_a = [n for n, each in enumerate(transcript, 1) if each.session == "a" and n > after]
    assert [row["id"] for row in everything] == of_a
    assert [row["id"] for row in committed] == of_a


@given(transcripts, states, st.integers(0, 6), st.none() | st.integers(0, 13))
def test_the_tail(transcript: list[Said], state: str, limit: int, before: int | None) -> None:
    with stored(transcript, state) as connection:
        rows = messages.tail(connection, read_facts(connection), "a", limit, before)
    of_a = [
        number
        for number, each in enumerate(transcript, 1)
        if each.session == "a" and (before is None or number < before)
    ]
    assert [row["id"] for row in rows] == of_a[-limit:][:limit]


@given(transcripts, states)
def test_neighbours(transcript: list[Said], state: str) -> None:
    ids = list(range(1, len(transcript) + 1))
    with stored(transcript, state) as connection:
        found = contexts(connection, read_facts(connection), ids)
    for number in ids:
        shown = _shown(transcript, transcript[number - 1].session, state)
        before = [each for each in shown if each < number][-1:]
        after = [each for each in shown if each > number][:1]
        around = [int(message["content"]) for message in found[number]]
        assert around == [*before, number, *after]


@given(transcripts, states)
def test_previews_and_last_activity(transcript: list[Said], state: str) -> None:
    with stored(transcript, state) as connection:
        rows = sessions.rich(connection, read_facts(connection))
    for row in rows:
        shown = _shown(transcript, row["id"], state)
        asked = [str(each) for each in shown if transcript[each - 1].role == "user"]
        assert row["preview"] == (asked or [""])[0]
        assert row["last_active"] == (transcript[shown[-1] - 1].timestamp if shown else 0.5)


# --- how much is read --------------------------------------------------------------------------


class Steps(Recorded):
    """Counts the steps of SQLite's machine."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.hundreds = 0
        connection.set_progress_handler(self._count, 100)

    def _count(self) -> int:
        self.hundreds += 1
        return 0


def _long(state: str, count: int) -> list[Said]:
    """Two sessions that are written in turns: what is next to a message has not the next id."""
    newest = 0.0 if state == "disordered" else float(count)
    them = [Said(session, "user", float(number), 1) for number in range(count) for session in "ab"]
    return [*them, Said("a", "user", newest, 1)]


def steps(count: int, state: str, read: Any) -> int:
    with stored(_long(state, count), state) as connection:
        facts = read_facts(connection)
        counted = Steps(connection)
        read(counted, facts, count)
        return counted.hundreds


def _neighbours(connection: Any, facts: Facts, count: int) -> None:
    contexts(connection, facts, [count - 1])


def _list(connection: Any, facts: Facts, _count: int) -> None:
    sessions.rich(connection, facts)


def _next_page(connection: Any, facts: Facts, count: int) -> None:
    messages.page(connection, facts, "a", 2 * count - 3)


@pytest.mark.parametrize("read", [_neighbours, _list, _next_page])
def test_where_times_rise_the_length_of_a_session_does_not_matter(read: Any) -> None:
    assert steps(5_000, "looked at", read) <= steps(50, "looked at", read) + 1
    assert steps(5_000, "disordered", read) > 50
