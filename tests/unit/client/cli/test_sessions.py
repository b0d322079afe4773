"""Which session a person means."""

from typing import Any, cast

import pytest

from sessiond_client import SessionDB
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.sessions import find_session, near


class Stored:
    """The calls that finding a session makes, over a dict of id to title."""

    def __init__(self, sessions: dict[str, str | None]) -> None:
        self._sessions = sessions

    def resolve_session_id(self, name: str) -> str | None:
        found = [each for each in self._sessions if each.startswith(name)]
        return name if name in found else found[0] if len(found) == 1 else None

    def resolve_session_by_title(self, title: str) -> str | None:
        wanted = (f"{title} #2", title)
        return next((i for t in wanted for i, each in self._sessions.items() if each == t), None)

    def get_session_by_title(self, title: str) -> dict[str, Any] | None:
        return next(({"id": i} for i, each in self._sessions.items() if each == title), None)

    def search_sessions(self, limit: int) -> list[dict[str, Any]]:
        return [{"id": i, "title": title} for i, title in self._sessions.items()][:limit]


DB = cast(
    SessionDB,
    Stored(
        {
            "20250101_aa": "trip",
            "20250101_ab": "trip #2",
            "2026_c": "20250101_aa",
            "bb": "2026",
            "bbb": None,
            "Zürich": "Straße",
        }
    ),
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("bb", "bb"),  # exact, though another id starts with it
        ("20250101_aa", "20250101_aa"),  # exact, though it is another one's title
        ("2026_", "2026_c"),
        ("trip", "20250101_ab"),
        ("trip #2", "20250101_ab"),
        ("Straße", "Zürich"),
    ],
)
def test_names_that_mean_one_session(name: str, found: str) -> None:
    assert find_session(DB, name) == found


def test_a_title_means_itself_only_where_something_is_changed() -> None:
    assert find_session(DB, "trip", lineage=False) == "20250101_aa"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("2026", "'2026' is a title of session bb and the beginning of 2026_c: give an id"),
        ("20250101", "'20250101' is the beginning of 20250101_aa, 20250101_ab: type more of it"),
        ("zurich", "no session 'zurich'; did you mean 'Zürich'?"),
        ("tripp", "no session 'tripp'; did you mean 'trip' or 'trip #2'?"),
        ("qqqqqq", "no session 'qqqqqq'"),
        ("", "no session ''"),
    ],
)
def test_names_that_do_not(name: str, text: str) -> None:
    with pytest.raises(Refused) as caught:
        find_session(DB, name)
    assert str(caught.value) == text


def test_many_that_start_alike_are_counted() -> None:
    db = cast(SessionDB, Stored({f"x{number:02}": None for number in range(10)}))
    with pytest.raises(Refused, match=r"^'x' is the beginning of x00, x01, x02 and 7 more: "):
        find_session(db, "x")


@pytest.mark.parametrize("name", ["lisbon", "Lisbn", "long trip"])
def test_part_of_a_title_is_near(name: str) -> None:
    assert near(name, [{"id": "1", "title": "A long trip to Lisbon and back"}]) == [
        "A long trip to Lisbon and back"
    ]
