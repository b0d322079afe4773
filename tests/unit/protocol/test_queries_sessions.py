"""Sessions by id, by prefix, and counted or paged."""

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond_protocol.queries import sessions
from sessiond_protocol.queries.facts import Facts, read_facts
from sessiond_protocol.schema import SESSION_COLUMN_NAMES
from tests.unit.protocol.filled import Recorded, add_session, fresh


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with fresh() as made:
        yield made


@pytest.fixture
def facts(connection: sqlite3.Connection) -> Facts:
    return read_facts(connection)


def test_a_session_has_every_column(connection: sqlite3.Connection, facts: Facts) -> None:
    add_session(connection, "s", 2.0, model_config='{"a": 1}', title="t")
    row = sessions.get(connection, facts, "s")
    assert row is not None
    assert tuple(row) == SESSION_COLUMN_NAMES
    assert (row["model_config"], row["started_at"], row["input_tokens"]) == ('{"a": 1}', 2.0, 0)
    assert sessions.get(connection, facts, "S") is None


def test_columns_of_a_newer_program_stay_out(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE sessions ADD COLUMN archived INTEGER DEFAULT 1")
    add_session(connection, "s")
    row = sessions.get(connection, read_facts(connection), "s")
    assert row is not None
    assert tuple(row) == SESSION_COLUMN_NAMES


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("abc", "abc"),  # exact, although abcd starts with it too
        ("abcd", "abcd"),
        ("ab", None),
        ("x", "x%y"),
        ("x%", "x%y"),
        ("%", None),
        ("_", None),
        ("x_", None),
        ("A", "Abc"),
        ("ABC", None),
        ("b\\", "b\\_"),
        ("", None),
        ("zz", None),
    ],
)
def test_prefixes(
    connection: sqlite3.Connection, facts: Facts, prefix: str, found: str | None
) -> None:
    for session_id in ("abc", "abcd", "x%y", "Abc", "b\\_"):
        add_session(connection, session_id)
    assert sessions.resolve(connection, facts, prefix) == found


short = st.text(st.sampled_from("ab%_\\é\U0010ffff\0"), max_size=4)


@given(st.sets(short, max_size=8), short)
@example({"a\U0010ffff", "b"}, "a")
def test_prefixes_as_a_scan_finds_them(ids: set[str], prefix: str) -> None:
    with fresh() as connection:
        for session_id in sorted(ids):
            add_session(connection, session_id)
        found = sessions.resolve(connection, read_facts(connection), prefix)
    matching = [session_id for session_id in ids if session_id.startswith(prefix)]
    if prefix and prefix in ids:
        assert found == prefix
    elif prefix and len(matching) == 1:
        assert found == matching[0]
    else:
        assert found is None


def test_a_prefix_is_looked_up_in_the_index(connection: sqlite3.Connection, facts: Facts) -> None:
    recorded = Recorded(connection)
    sessions.resolve(recorded, facts, "a")
    assert recorded.plan() == (
        "SEARCH sessions USING COVERING INDEX sqlite_autoindex_sessions_1 (id>?)"
    )


def test_counts(connection: sqlite3.Connection, facts: Facts) -> None:
    for number in range(5):
        add_session(connection, f"{number}", source="cron" if number == 3 else "cli")
    assert sessions.count(connection, facts) == 5
    assert sessions.count(connection, facts, "cron") == 1
    assert sessions.count(connection, facts, "") == 0


def test_only_ended_sessions_before_the_cutoff_are_prunable(
    connection: sqlite3.Connection, facts: Facts
) -> None:
    for number in range(10):
        ended_at = 99.0 if number % 2 else None
        source = "cron" if number < 2 else "cli"
        add_session(connection, f"{number}", float(number), ended_at=ended_at, source=source)
    assert sessions.prunable(connection, facts, 7.0) == 3
    assert sessions.prunable(connection, facts, 7.5) == 4
    assert sessions.prunable(connection, facts, 7.0, "cron") == 1


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["cli", "cron"])), max_size=12),
    st.integers(1, 4),
    st.sampled_from([None, "cli"]),
)
def test_pages_by_key_meet_every_session_once(
    started: list[tuple[int, str]], size: int, source: str | None
) -> None:
    with fresh() as connection:
        facts = read_facts(connection)
        for number, (at, name) in enumerate(started):
            add_session(connection, f"{number:02}", float(at), source=name)
        read: list[tuple[float, str]] = []
        while page := sessions.page(connection, facts, source, read[-1] if read else None, size):
            assert len(page) <= size
            read += [(row["started_at"], row["id"]) for row in page]
    expected = [
        (float(at), f"{number:02}")
        for number, (at, name) in enumerate(started)
        if source in (None, name)
    ]
    assert read == sorted(expected, reverse=True)


def test_a_page_by_key_starts_in_the_index(connection: sqlite3.Connection, facts: Facts) -> None:
    recorded = Recorded(connection)
    sessions.page(recorded, facts, None, (1.0, "a"), 10)
    assert "INDEX idx_sessions_started (started_at<?)" in recorded.plan()
