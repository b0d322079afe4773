"""Lists of sessions, the newest first, plain and rich."""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond_protocol.content import INLINE_JSON
from sessiond_protocol.queries import sessions
from sessiond_protocol.queries.facts import Facts, read_facts
from sessiond_protocol.schema import SESSION_COLUMN_NAMES
from tests.unit.protocol.filled import Recorded, add_message, add_session, fresh


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with fresh() as made:
        yield made


@pytest.fixture
def facts(connection: sqlite3.Connection) -> Facts:
    return read_facts(connection)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def assert_looks_by_session(plan: list[str]) -> None:
    """Preview and last message, each where times rise and where they do not."""
    looked_up = [step for step in plan if " m " in step]
    assert [step.replace("COVERING ", "") for step in looked_up] == [
        "SEARCH m USING INDEX idx_messages_session (session_id=?)"
    ] * 4


def preview_of(content: Any) -> str:
    with fresh() as connection:
        add_session(connection, "s")
        add_message(connection, "s", content)
        (row,) = sessions.rich(connection, read_facts(connection))
    preview: str = row["preview"]
    return preview


def test_the_newest_comes_first_and_of_two_the_later_stored(
    connection: sqlite3.Connection, facts: Facts
) -> None:
    for session_id, at in (("a", 1.0), ("b", 3.0), ("c", 2.0), ("d", 2.0)):
        add_session(connection, session_id, at)
    for query in (sessions.newest, sessions.rich):
        assert ids(query(connection, facts)) == ["b", "d", "c", "a"]
        assert ids(query(connection, facts, limit=2, offset=1)) == ["d", "c"]
        assert ids(query(connection, facts, offset=9)) == []
        assert ids(query(connection, facts, limit=0)) == []


def test_twenty_by_default(connection: sqlite3.Connection, facts: Facts) -> None:
    for number in range(21):
        add_session(connection, f"{number}")
    assert len(sessions.newest(connection, facts)) == 20
    assert len(sessions.rich(connection, facts)) == 20


@pytest.mark.parametrize("query", [sessions.newest, sessions.rich])
@pytest.mark.parametrize("named", ["limit", "offset"])
def test_negative_bounds_are_refused_by_name(
    connection: sqlite3.Connection, facts: Facts, query: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=f"^{named} must be between 0 and .*, -1 is not$"):
        query(connection, facts, **{named: -1})


def test_sources(connection: sqlite3.Connection, facts: Facts) -> None:
    for number, source in enumerate(("cli", "cron", "tool", "cli")):
        add_session(connection, f"{number}", float(number), source=source)
    assert ids(sessions.newest(connection, facts, "cli")) == ["3", "0"]
    assert ids(sessions.rich(connection, facts, "cli")) == ["3", "0"]
    assert ids(sessions.rich(connection, facts, None, ["cron", "tool"])) == ["3", "0"]
    assert ids(sessions.rich(connection, facts, "cron", ["cron"])) == []
    assert len(sessions.rich(connection, facts, None, [])) == 4


def test_a_rich_row_has_every_column_a_preview_and_the_last_activity(
    connection: sqlite3.Connection, facts: Facts
) -> None:
    add_session(connection, "s", 5.0)
    (row,) = sessions.rich(connection, facts)
    assert tuple(row) == (*SESSION_COLUMN_NAMES, "preview", "last_active")
    assert (row["preview"], row["last_active"]) == ("", 5.0)
    add_message(connection, "s", "of the system", role="system", timestamp=9.0)
    add_message(connection, "s", None, timestamp=9.0)
    add_message(connection, "s", "", timestamp=9.0)
    add_message(connection, "s", "first", timestamp=9.0)
    add_message(connection, "s", "second", timestamp=7.0)
    (row,) = sessions.rich(connection, facts)
    # The last message is the one with the highest id, whatever its clock said.
    assert (row["preview"], row["last_active"]) == ("first", 7.0)


def test_rewound_messages_are_neither_preview_nor_activity() -> None:
    with fresh(active=True) as connection:
        add_session(connection, "s", 1.0)
        add_message(connection, "s", "rewound", timestamp=2.0, active=0)
        add_message(connection, "s", "kept", timestamp=3.0, active=1)
        add_message(connection, "s", "rewound", timestamp=4.0, active=0)
        (row,) = sessions.rich(connection, read_facts(connection))
    assert (row["preview"], row["last_active"]) == ("kept", 3.0)


@pytest.mark.parametrize(
    ("content", "preview"),
    [
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 60 + "..."),
        ("x" * 60 + " \n\u3000", "x" * 60),
        (" " * 500 + "late", "late"),
        ("one\ntwo\r\nthree", "one two  three"),
        ("\u2003\x1fa\tb\x85", "a\tb"),
        ("a\0b", "a\0b"),
        ("😀" * 61, "😀" * 60 + "..."),
        ("😀" * 60, "😀" * 60),
        ("  \n ", ""),
        (INLINE_JSON + json.dumps([{"type": "text", "text": " hi\nyou "}]), "hi you"),
        (INLINE_JSON + json.dumps([{"type": "image", "data": "A" * 999}]), ""),
        (INLINE_JSON + json.dumps("text"), "text"),
        (INLINE_JSON + "{", INLINE_JSON + "{"),
        (b"a blob of another program", "a blob of another program"),
    ],
)
def test_previews(content: Any, preview: str) -> None:
    assert preview_of(content) == preview


def test_every_whitespace_character_is_stripped() -> None:
    spaces = "".join(filter(str.isspace, map(chr, range(0x110000))))
    assert preview_of(spaces + "a" + spaces) == "a"


def test_looks_at_messages_do_not_depend_on_stale_statistics(
    connection: sqlite3.Connection, facts: Facts
) -> None:
    add_session(connection, "s")
    add_message(connection, "s", "all that there was when ANALYZE ran")
    connection.execute("ANALYZE")
    recorded = Recorded(connection)
    sessions.rich(recorded, facts)
    assert_looks_by_session(recorded.plan().splitlines())


def test_a_file_without_our_indexes_is_listed_too() -> None:
    with fresh(side_tables=False) as connection:
        add_session(connection, "s")
        add_message(connection, "s", "hello", timestamp=3.0)
        (row,) = sessions.rich(connection, read_facts(connection))
    assert (row["preview"], row["last_active"]) == ("hello", 3.0)


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("filters", [{}, {"exclude_sources": ["cron"]}])
def test_a_list_is_one_statement_that_reads_only_its_page(
    connection: sqlite3.Connection, facts: Facts, filters: dict[str, Any], analyzed: bool
) -> None:
    for number in range(500):
        add_session(connection, f"{number}", float(number))
    if analyzed:
        connection.execute("ANALYZE")
    recorded = Recorded(connection)
    sessions.rich(recorded, facts, **filters)
    assert len(recorded.statements) == 1
    steps = recorded.plan().splitlines()
    assert steps[1].startswith("SCAN sessions USING")
    assert "INDEX idx_sessions_started" in steps[1]
    # Ties are sorted among themselves; a whole sort would read every session first.
    assert steps[2].startswith(("USE TEMP B-TREE FOR RIGHT PART", "USE TEMP B-TREE FOR LAST TERM"))
    assert_looks_by_session(steps)


def _naive(
    stored: list[tuple[int, str, list[tuple[str, str | None, int]]]],
    source: str | None,
    excluded: list[str] | None,
    limit: int,
    offset: int,
) -> list[tuple[str, str, float]]:
    rows = []
    for number, (at, name, transcript) in enumerate(stored):
        if source not in (None, name) or name in (excluded or ()):
            continue
        first = next((text for role, text, _ in transcript if role == "user" and text), "")
        text = (first or "").replace("\n", " ").replace("\r", " ").strip()
        preview = text if len(text) <= 60 else text[:60] + "..."
        last = transcript[-1][2] if transcript else at
        rows.append((float(at), number, preview, float(last)))
    rows.sort(reverse=True)
    return [(str(number), preview, last) for _, number, preview, last in rows][
        offset : offset + limit
    ]


texts = st.none() | st.text(max_size=70) | st.text(st.sampled_from("x \n\r\0\u2003"), max_size=70)
transcripts = st.lists(
    st.tuples(st.sampled_from(["user", "assistant"]), texts, st.integers(0, 9)), max_size=4
)
sources = st.sampled_from(["cli", "cron", "tool"])


@given(
    st.lists(st.tuples(st.integers(0, 3), sources, transcripts), max_size=6),
    st.none() | sources,
    st.none() | st.lists(sources, max_size=2),
    st.integers(0, 4),
    st.integers(0, 3),
)
@example([(0, "cli", [("user", "\0json:x", 1)])], None, None, 4, 0)
def test_rich_as_plain_python_lists_them(
    stored: list[tuple[int, str, list[tuple[str, str | None, int]]]],
    source: str | None,
    excluded: list[str] | None,
    limit: int,
    offset: int,
) -> None:
    with fresh() as connection:
        for number, (at, name, transcript) in enumerate(stored):
            add_session(connection, str(number), float(at), source=name)
            for role, text, timestamp in transcript:
                add_message(connection, str(number), text, role, float(timestamp))
        rows = sessions.rich(connection, read_facts(connection), source, excluded, limit, offset)
    expected = _naive(stored, source, excluded, limit, offset)
    assert [(row["id"], row["preview"], row["last_active"]) for row in rows] == expected
