"""Transcripts in pages, counts."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.queries import messages
from sessiond_protocol.queries.facts import Facts, read_facts
from sessiond_protocol.rows import decode_message
from tests.unit.protocol.filled import Recorded, add_message, add_session, add_structure, fresh


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Two sessions written at once: s has the odd ids 1 to 9, t the even ones."""
    with fresh() as made:
        add_session(made, "s")
        add_session(made, "t")
        for number in range(1, 11):
            # Time runs backwards: it must not decide the order.
            add_message(made, "st"[number % 2 == 0], f"{number}", timestamp=100.0 - number)
        yield made


@pytest.fixture
def facts(connection: sqlite3.Connection) -> Facts:
    return read_facts(connection)


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def test_the_order_is_that_of_the_ids(connection: sqlite3.Connection, facts: Facts) -> None:
    assert ids(messages.page(connection, facts, "s")) == [1, 3, 5, 7, 9]
    assert messages.page(connection, facts, "nobody") == []


def test_pages_by_offset_and_by_key(connection: sqlite3.Connection, facts: Facts) -> None:
    assert ids(messages.page(connection, facts, "s", limit=2, offset=1)) == [3, 5]
    assert ids(messages.page(connection, facts, "s", after_id=3, limit=2)) == [5, 7]
    assert ids(messages.page(connection, facts, "s", after_id=3, limit=2, offset=2)) == [9]
    assert messages.page(connection, facts, "s", limit=0) == []


@pytest.mark.parametrize("arguments", [{"limit": -1}, {"offset": -1}, {"after_id": 2**63}])
def test_bounds_are_refused_by_name(
    connection: sqlite3.Connection, facts: Facts, arguments: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(arguments))} must be between"):
        messages.page(connection, facts, "s", **arguments)


def test_a_raw_row_has_every_column_and_the_structure(
    connection: sqlite3.Connection, facts: Facts
) -> None:
    message_id = add_message(
        connection, "s", "hi", role="assistant", tool_calls="[1]", token_count=3
    )
    add_structure(connection, message_id, '[{"text":"hi"}]', "hi")
    row = messages.page(connection, facts, "s")[-1]
    assert tuple(row) == messages.RAW_NAMES
    assert (row["tool_calls"], row["token_count"]) == ("[1]", 3)
    assert decode_message(row)["content"] == [{"text": "hi"}]


def test_without_side_tables_there_is_no_structure() -> None:
    with fresh(side_tables=False) as connection:
        add_session(connection, "s")
        add_message(connection, "s", "hi")
        row = messages.page(connection, read_facts(connection), "s")[0]
    assert tuple(row) == messages.RAW_NAMES
    assert (row["content"], row["content_value"], row["content_hash"]) == ("hi", None, None)


def test_rewound_messages_are_left_out_of_conversations_only() -> None:
    with fresh(active=True) as connection:
        add_session(connection, "s")
        for active in (1, 0, None, 1):
            add_message(connection, "s", active=active)
        facts = read_facts(connection)
        assert ids(messages.conversation(connection, facts, "s")) == [1, 3, 4]
        assert ids(messages.conversation(connection, facts, "s", 1, 1, 1)) == [4]
        assert ids(messages.page(connection, facts, "s")) == [1, 2, 3, 4]


def test_a_conversation_is_the_transcript_when_nothing_can_be_rewound(
    connection: sqlite3.Connection, facts: Facts
) -> None:
    page = messages.page(connection, facts, "s")
    assert messages.conversation(connection, facts, "s") == page


def test_the_tail_is_in_order(connection: sqlite3.Connection, facts: Facts) -> None:
    assert ids(messages.tail(connection, facts, "s", 2)) == [7, 9]
    assert ids(messages.tail(connection, facts, "s", 2, before_id=7)) == [3, 5]


def test_the_tail_of_all_sessions(connection: sqlite3.Connection, facts: Facts) -> None:
    assert ids(messages.tail(connection, facts, None, 3)) == [8, 9, 10]
    assert ids(messages.tail(connection, facts, None, 2, before_id=8)) == [6, 7]
    assert messages.tail(connection, facts, None, 0) == []


def test_committed_messages_of_all_sessions(connection: sqlite3.Connection, facts: Facts) -> None:
    assert ids(messages.committed(connection, facts, 8)) == [9, 10]
    assert ids(messages.committed(connection, facts, 3, up_to=6)) == [4, 5, 6]
    assert ids(messages.committed(connection, facts, 3, up_to=9, limit=2)) == [4, 5]
    assert messages.last_id(connection, facts) == 10


def test_counts(connection: sqlite3.Connection, facts: Facts) -> None:
    assert messages.count(connection, facts) == 10
    assert messages.count(connection, facts, "s") == 5
    assert messages.count(connection, facts, "nobody") == 0


def test_nothing_stored() -> None:
    with fresh() as connection:
        facts = read_facts(connection)
        assert messages.last_id(connection, facts) == 0
        assert messages.count(connection, facts) == 0


@pytest.mark.parametrize("stale_statistics", [False, True])
def test_a_page_is_read_in_order_from_the_index(
    connection: sqlite3.Connection, facts: Facts, stale_statistics: bool
) -> None:
    if stale_statistics:
        connection.execute("ANALYZE")
    recorded = Recorded(connection)
    messages.page(recorded, facts, "s", after_id=3, limit=2)
    assert len(recorded.statements) == 1
    assert "COVERING INDEX idx_messages_session (session_id=? AND timestamp>?)" in recorded.plan()
    assert "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)" in recorded.plan()
    messages.tail(recorded, facts, "s", 2, before_id=7)
    assert "COVERING INDEX idx_messages_session (session_id=?)" in recorded.plan()
    assert "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)" in recorded.plan()
    messages.count(recorded, facts, "s")
    assert "COVERING INDEX" in recorded.plan()


@given(st.lists(st.sampled_from("ab"), max_size=20), st.integers(1, 5))
def test_pages_by_key_make_up_the_transcript(owners: list[str], size: int) -> None:
    with fresh() as connection:
        facts = read_facts(connection)
        for session_id in "ab":
            add_session(connection, session_id)
        stored = [(add_message(connection, owner), owner) for owner in owners]
        read: list[int] = []
        while page := messages.page(connection, facts, "a", read[-1] if read else 0, size):
            assert len(page) <= size
            read += ids(page)
    assert read == [message_id for message_id, owner in stored if owner == "a"]


# --- pages bounded by their size -----------------------------------------------------------------


def bounded(connection: sqlite3.Connection, after: int, limit: int, most: int) -> tuple[Any, bool]:
    facts = read_facts(connection)
    rows, more = messages.bounded_page(
        connection, facts, "long", after, limit, 0, active_only=False, most_bytes=most
    )
    return ids(rows), more


@pytest.fixture
def long(connection: sqlite3.Connection) -> list[int]:
    """The ids of 200 messages of 1,000 letters each, but for a large one in the middle."""
    add_session(connection, "long")
    sizes = [1_000] * 100 + [50_000] + [1_000] * 99
    return [add_message(connection, "long", "x" * size) for size in sizes]


def test_a_page_ends_early_when_it_holds_enough(
    connection: sqlite3.Connection, long: list[int]
) -> None:
    first, more = bounded(connection, 0, 1000, 20_000)
    assert more
    assert 20 <= len(first) < 100
    assert first == long[: len(first)]


def test_every_message_is_in_exactly_one_page(
    connection: sqlite3.Connection, long: list[int]
) -> None:
    for most in (1, 1_000, 60_000, 10**9):
        for limit in (1, 8, 9, 72, 199, 200, 201, 2**63 - 1):
            read: list[int] = []
            more = True
            while more:
                page, more = bounded(connection, read[-1] if read else 0, limit, most)
                assert 0 < len(page) <= limit
                read += page
            assert read == long


def test_an_open_page_holds_no_snapshot(connection: sqlite3.Connection, long: list[int]) -> None:
    bounded(connection, 0, 1000, 1)
    connection.execute("DELETE FROM messages WHERE session_id = 'long'")
    connection.commit()
    connection.execute("PRAGMA journal_mode=MEMORY")  # refused while a statement is open
    assert bounded(connection, 0, 1000, 1) == ([], False)
