"""Repeated titles become numbered ones; no session is lost and the newest is found."""

from collections.abc import Iterator

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.sqlite.ask import rows
from sessiond.sqlite.unique_titles import make_titles_unique
from sessiond_protocol import schema
from sessiond_protocol.titles import MAX_TITLE_LENGTH, split_number


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    """A sessions table without the unique index."""
    connection = apsw.Connection(":memory:")
    connection.execute(schema.SESSIONS_TABLE)
    yield connection
    connection.close()


def titles_after(
    connection: apsw.Connection, titles: list[tuple[str | bytes | None, float]]
) -> list[str | None]:
    """Store (title, started_at) rows, make them unique, and return the titles by row."""
    for number, (title, started) in enumerate(titles):
        connection.execute(
            "INSERT INTO sessions (id, source, started_at, title) VALUES (?, 'cli', ?, ?)",
            (f"s{number}", started, title),
        )
    make_titles_unique(connection)
    connection.execute(schema.INDEXES["idx_sessions_title_unique"])
    found = rows(connection, "SELECT title FROM sessions ORDER BY rowid")
    return [title for (title,) in found]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # the oldest keeps it, whatever the order of the rows
        ([("T", 3.0), ("T", 1.0), ("T", 2.0)], ["T #3", "T", "T #2"]),
        # a number that is taken is passed over
        ([("T", 1.0), ("T", 2.0), ("T #2", 1.5)], ["T", "T #3", "T #2"]),
        # above every older one, so that the title resolves to the newest
        ([("T", 1.0), ("T #5", 2.0), ("T", 3.0)], ["T", "T #5", "T #6"]),
        # below a newer one, which stays the newest
        ([("T", 1.0), ("T", 2.0), ("T #5", 3.0)], ["T", "T #2", "T #5"]),
        # a number repeated goes on in its lineage
        ([("T #2", 1.0), ("T #2", 2.0)], ["T #2", "T #3"]),
        # equal times: the order of the rows
        ([("T", 1.0), ("T", 1.0)], ["T", "T #2"]),
        # no title is no title, a blank one is worth no number
        ([(None, 1.0), (None, 2.0), ("", 1.0), ("", 2.0)], [None, None, "", None]),
        # only a real number is one
        ([("T #draft", 1.0), ("T #draft", 2.0)], ["T #draft", "T #draft #2"]),
        ([("a", 1.0), ("A", 2.0)], ["a", "A"]),
    ],
)  # fmt: skip
def test_numbers(
    connection: apsw.Connection,
    before: list[tuple[str | bytes | None, float]],
    after: list[str | None],
) -> None:
    assert titles_after(connection, before) == after


def test_a_long_title_is_cut_to_make_room_for_its_number(connection: apsw.Connection) -> None:
    long = "x" * MAX_TITLE_LENGTH
    after = titles_after(connection, [(long, float(number)) for number in range(12)])
    assert after[1] == "x" * (MAX_TITLE_LENGTH - 3) + " #2"
    assert after[11] == "x" * (MAX_TITLE_LENGTH - 4) + " #12"


def test_two_titles_that_are_cut_alike_get_different_numbers(
    connection: apsw.Connection,
) -> None:
    one, other = "x" * 99 + "a", "x" * 99 + "b"
    after = titles_after(connection, [(one, 1.0), (one, 2.0), (other, 3.0), (other, 4.0)])
    assert after == [one, "x" * 97 + " #2", other, "x" * 97 + " #3"]


def test_text_that_is_not_utf_8_is_kept_and_told_apart(connection: apsw.Connection) -> None:
    connection.execute(
        "INSERT INTO sessions (id, source, started_at, title)"
        " VALUES ('a', 'cli', 1, CAST(x'54ff' AS TEXT)),"
        " ('b', 'cli', 2, CAST(x'54ff' AS TEXT)), ('c', 'cli', 3, x'54ff')"
    )
    changes = make_titles_unique(connection)
    assert [(change.session_id, change.after) for change in changes] == [("b", "T\ufffd #2")]
    connection.execute(schema.INDEXES["idx_sessions_title_unique"])


def test_every_change_is_logged(
    connection: apsw.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    titles_after(connection, [("T", 1.0), ("T", 2.0), ("U", 1.0)])
    assert [record.getMessage() for record in caplog.records] == [
        "title of session s1 was used before: 'T' is now 'T #2'"
    ]


_TITLES = st.sampled_from(["", " ", "T", "T #2", "T #3", "T #7", "U", "U #x", "w" * 100, "w" * 120])


@given(st.lists(st.tuples(st.none() | _TITLES, st.floats(0, 9))))
def test_afterwards_titles_are_unique_and_the_first_of_each_is_untouched(
    before: list[tuple[str | bytes | None, float]],
) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(schema.SESSIONS_TABLE)
    after = titles_after(connection, before)
    connection.close()
    assert len(after) == len(before)
    oldest: dict[str, tuple[float, int]] = {}
    for number, (title, started) in enumerate(before):
        if isinstance(title, str):
            oldest[title] = min(oldest.get(title, (started, number)), (started, number))
    kept = {number for _, number in oldest.values()}
    for number, (title, _) in enumerate(before):
        now = after[number]
        if title is None or number in kept:
            assert now == title
        else:
            assert now != title
            assert now is None or len(now) <= MAX_TITLE_LENGTH


@given(st.lists(st.floats(0, 99), min_size=1, unique=True))
def test_the_highest_number_is_the_newest(times: list[float]) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(schema.SESSIONS_TABLE)
    after = titles_after(connection, [("T", time) for time in times])
    connection.close()
    numbers = [split_number(title or "")[1] or 1 for title in after]
    assert numbers.index(max(numbers)) == times.index(max(times))
