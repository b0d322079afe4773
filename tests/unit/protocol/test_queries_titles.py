"""Sessions by title, and the next title of a lineage."""

import re
import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.queries import sessions
from sessiond_protocol.queries.facts import Facts, read_facts
from sessiond_protocol.titles import MAX_TITLE_LENGTH, sanitize_title
from tests.unit.protocol.filled import Recorded, add_session, fresh


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with fresh() as made:
        yield made


@pytest.fixture
def facts(connection: sqlite3.Connection) -> Facts:
    return read_facts(connection)


def titled(connection: sqlite3.Connection, *titles: str) -> None:
    """Store sessions with these titles; each has its title as id, in angle brackets."""
    for number, title in enumerate(titles):
        add_session(connection, f"<{title}>", float(-number), title=title)


def test_a_title_and_its_session(connection: sqlite3.Connection, facts: Facts) -> None:
    titled(connection, "one")
    add_session(connection, "untitled")
    assert sessions.title(connection, facts, "<one>") == "one"
    assert sessions.title(connection, facts, "untitled") is None
    assert sessions.title(connection, facts, "nobody") is None
    row = sessions.by_title(connection, facts, "one")
    assert row is not None
    assert row["id"] == "<one>"
    assert sessions.by_title(connection, facts, "One") is None


@pytest.mark.parametrize(
    ("titles", "asked", "found"),
    [
        (["a"], "a", "<a>"),
        (["a", "a #2"], "a", "<a #2>"),
        (["a #10", "a #9", "a"], "a", "<a #10>"),
        (["a #2"], "a", "<a #2>"),
        (["a", "a #draft"], "a", "<a>"),
        (["a", "a #2b", "a #", "a#3"], "a", "<a>"),
        (["a #2", "a #3"], "a #2", "<a #2>"),
        (["a #2", "a #2 #1"], "a #2", "<a #2 #1>"),
        (["A #2"], "a", None),
        (["ax #2", "a_ #3", "a% #4"], "a", None),
        (["a% #2", "ab #3"], "a%", "<a% #2>"),
        (["é #2", "é"], "é", "<é #2>"),
        (["a #" + "9" * 18, "a #" + "1" * 19], "a", "<a #" + "9" * 18 + ">"),
        ([], "a", None),
        ([], "", None),
    ],
)
def test_the_highest_number_is_the_newest(
    connection: sqlite3.Connection, facts: Facts, titles: list[str], asked: str, found: str | None
) -> None:
    titled(connection, *titles)
    assert sessions.resolve_title(connection, facts, asked) == found


@pytest.mark.parametrize(
    ("titles", "asked", "following"),
    [
        ([], "a", "a"),
        ([], "a #7", "a"),
        (["a"], "a", "a #2"),
        (["a"], "a #7", "a #2"),
        (["a #5"], "a", "a #6"),
        (["a #1"], "a", "a #2"),
        (["a", "a #9", "a #10"], "a #9", "a #11"),
        (["a #draft"], "a", "a"),
        (["b #2"], "a", "a"),
        (["a #2 #3"], "a #2 #3", "a #2 #4"),
    ],
)
def test_the_next_title(
    connection: sqlite3.Connection, facts: Facts, titles: list[str], asked: str, following: str
) -> None:
    titled(connection, *titles)
    recorded = Recorded(connection)
    assert sessions.next_title(recorded, facts, asked) == following
    assert len(recorded.statements) == 1


def test_a_long_base_is_cut(connection: sqlite3.Connection, facts: Facts) -> None:
    base = "x" * MAX_TITLE_LENGTH
    assert sessions.next_title(connection, facts, base + "y") == base
    titled(connection, base)
    assert sessions.next_title(connection, facts, base) == base[:97] + " #2"
    titled(connection, base[:97] + " #2")
    assert sessions.next_title(connection, facts, base) == base[:97] + " #3"
    titled(connection, base[:97] + " #9")
    assert sessions.next_title(connection, facts, base) == base[:96] + " #10"


def test_both_halves_are_looked_up_in_the_index(
    connection: sqlite3.Connection, facts: Facts
) -> None:
    recorded = Recorded(connection)
    sessions.resolve_title(recorded, facts, "a")
    plan = recorded.plan()
    assert "INDEX idx_sessions_title_unique (title=?)" in plan
    assert "INDEX idx_sessions_title_unique (title>? AND title<?)" in plan
    assert "SCAN sessions" not in plan


# Short, from few characters, so that lineages meet; nothing that cleaning would change.
fragments = st.sampled_from(["a", "b", "%", " #", "1", "02", "9", "10", "x" * 48, "é"])
titles = st.lists(fragments, min_size=1, max_size=6).map("".join).map(str.strip).filter(bool)


def _numbers(stored: set[str], base: str) -> dict[int, list[str]]:
    numbers: dict[int, list[str]] = {}
    for title in stored:
        match = re.fullmatch(re.escape(base) + r" #([0-9]{1,18})", title)
        if match:
            numbers.setdefault(int(match[1]), []).append(title)
    return numbers


@given(st.sets(titles, max_size=8), titles)
def test_titles_resolve_as_a_scan_finds_them(stored: set[str], asked: str) -> None:
    with fresh() as connection:
        titled(connection, *sorted(stored))
        found = sessions.resolve_title(connection, read_facts(connection), asked)
    numbers = _numbers(stored, asked)
    if numbers:
        assert found in {f"<{title}>" for title in numbers[max(numbers)]}
    else:
        assert found == (f"<{asked}>" if asked in stored else None)


@given(titles, st.lists(titles, max_size=6), st.integers(1, 15))
def test_following_titles_are_free_fit_and_rise(base: str, stored: list[str], steps: int) -> None:
    with fresh() as connection:
        facts = read_facts(connection)
        taken = {title for title in stored if len(title) <= MAX_TITLE_LENGTH}
        titled(connection, *sorted(taken))
        for step in range(steps):
            following = sessions.next_title(connection, facts, base)
            assert following not in taken
            assert len(following) <= MAX_TITLE_LENGTH
            assert sanitize_title(following) == following
            add_session(connection, f"new {step}", title=following)
            taken.add(following)
