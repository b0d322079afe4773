"""What titles do, on both clients and by every way of reading."""

import pytest

from sessiond_client import SessionDB
from tests.support.clients import new_id


def titled(db: SessionDB, title: str | None, started_after: str | None = None) -> str:
    """A new session with this title."""
    name = new_id()
    db.create_session(name, "cli", parent_session_id=started_after)
    if title is not None:
        assert db.set_session_title(name, title) is True
    return name


# --- cleaning ------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [None, "", "  \t\n", "\u200b\ufeff", "\x00\x1f"])
def test_a_blank_title_is_none(db: SessionDB, blank: str | None) -> None:
    assert db.sanitize_title(blank) is None


def test_invisible_characters_go_and_whitespace_collapses(db: SessionDB) -> None:
    assert db.sanitize_title(" a\x00b\t\n c\u202e\u2066d\u00a0 e\ufffa ") == "ab cd e"


def test_a_title_too_long_names_both_lengths(db: SessionDB) -> None:
    assert db.MAX_TITLE_LENGTH == 100
    assert db.sanitize_title("x" * 100 + "\u200b") == "x" * 100
    with pytest.raises(ValueError, match=r"101.*100"):
        db.sanitize_title("x" * 101)
    name = titled(db, None)
    with pytest.raises(ValueError, match=r"101.*100"):
        db.set_session_title(name, "x" * 101)


# --- set, get, find ------------------------------------------------------------------------


def test_set_cleans_and_none_clears(db: SessionDB) -> None:
    title = new_id("title")
    name = titled(db, f"  {title}\u200b  two ")
    assert db.get_session_title(name) == f"{title} two"
    by_title = db.get_session_by_title(f"{title} two")
    assert by_title is not None
    assert by_title["id"] == name
    assert db.set_session_title(name, None) is True
    assert db.get_session_title(name) is None
    assert db.get_session_by_title(f"{title} two") is None
    assert db.set_session_title(name, " ") is True
    assert db.get_session_title(name) is None


def test_a_missing_session_has_no_title(db: SessionDB) -> None:
    name = new_id()
    assert db.set_session_title(name, new_id("title")) is False
    assert db.set_session_title(name, None) is False
    assert db.get_session_title(name) is None


def test_a_title_of_another_session_is_a_value_error_that_names_it(db: SessionDB) -> None:
    title = new_id("title")
    holder, other = titled(db, title), titled(db, None)
    with pytest.raises(ValueError, match=holder):
        db.set_session_title(other, title)
    assert db.get_session_title(other) is None
    assert db.set_session_title(holder, title) is True
    assert db.set_session_title(new_id(), title) is False


def test_by_title_is_exact(db: SessionDB) -> None:
    title = new_id("Title")
    titled(db, title)
    assert db.get_session_by_title(title.lower()) is None
    assert db.get_session_by_title(title[:-1]) is None
    assert db.get_session_by_title(f"{title} ") is None


# --- lineages ------------------------------------------------------------------------------


def test_the_highest_number_wins_whenever_it_started(db: SessionDB) -> None:
    title = new_id("title")
    tenth = titled(db, f"{title} #10")
    first = titled(db, title)
    ninth = titled(db, f"{title} #9")
    assert db.resolve_session_by_title(title) == tenth
    assert db.resolve_session_by_title(f"{title} #9") == ninth
    db.set_session_title(tenth, None)
    db.set_session_title(ninth, None)
    assert db.resolve_session_by_title(title) == first
    assert db.resolve_session_by_title(new_id("title")) is None


def test_only_a_real_number_is_a_continuation(db: SessionDB) -> None:
    title = new_id("title")
    first = titled(db, title)
    titled(db, f"{title} #draft")
    titled(db, f"{title} #2b")
    titled(db, f"{title}#3")
    titled(db, f"{title.upper()} #4")
    assert db.resolve_session_by_title(title) == first
    assert db.get_next_title_in_lineage(title) == f"{title} #2"


@pytest.mark.parametrize("wildcard", ["%", "_", "\\"])
def test_wildcards_in_a_title_are_literal(db: SessionDB, wildcard: str) -> None:
    base = new_id("like")
    titled(db, f"{base}x #2")
    assert db.resolve_session_by_title(base + wildcard) is None
    assert db.get_next_title_in_lineage(base + wildcard) == base + wildcard
    numbered = titled(db, f"{base}{wildcard} #3")
    assert db.resolve_session_by_title(base + wildcard) == numbered


def test_the_next_title_of_a_lineage(db: SessionDB) -> None:
    title = new_id("title")
    assert db.get_next_title_in_lineage(title) == title
    assert db.get_next_title_in_lineage(f"{title} #7") == title
    titled(db, title)
    assert db.get_next_title_in_lineage(title) == f"{title} #2"
    titled(db, f"{title} #41")
    assert db.get_next_title_in_lineage(title) == f"{title} #42"
    assert db.get_next_title_in_lineage(f"{title} #3") == f"{title} #42"


def test_the_next_title_fits(db: SessionDB) -> None:
    title = (new_id("title") + "x" * 100)[:100]
    titled(db, title)
    following = db.get_next_title_in_lineage(title)
    assert following == f"{title[:97]} #2"
    titled(db, following)
    assert db.get_next_title_in_lineage(title) == f"{title[:97]} #3"
