"""Cleaning titles and numbering continuations."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond_protocol.titles import MAX_TITLE_LENGTH, numbered, sanitize_title, split_number

# Text in which the characters that cleaning is about are not rare.
awkward = st.text(
    st.one_of(
        st.characters(max_codepoint=0x7F),
        st.characters(min_codepoint=0x2000, max_codepoint=0x206F),
        st.sampled_from("\x85\xa0\u3000\ufeff\ufffc\ufff9\ufffa\ufffb\ufffd"),
        st.characters(),
    ),
    max_size=MAX_TITLE_LENGTH,
)

REMOVED = (
    {*range(0x20), 0x7F}.difference({0x09, 0x0A, 0x0D})
    | {*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x206A)}
    | {0xFEFF, 0xFFFC, *range(0xFFF9, 0xFFFC)}
)


@pytest.mark.parametrize("title", [None, "", "  \t\n ", "\u200b\ufeff", "\x00"])
def test_nothing_visible_is_no_title(title: str | None) -> None:
    assert sanitize_title(title) is None


@pytest.mark.parametrize(
    ("title", "cleaned"),
    [
        ("  a \t\r\n b  ", "a b"),
        ("a\x00b\x7fc\x1bd", "abcd"),
        ("a\x0bb\x0cc", "abc"),
        ("a\u2028b\u202ec", "abc"),
        ("a\u3000\u2003b", "a b"),
        ("a \u200b b", "a b"),
        ("👩\u200d💻", "👩💻"),
        ("über #3", "über #3"),
    ],
)
def test_cleaning(title: str, cleaned: str) -> None:
    assert sanitize_title(title) == cleaned


def test_the_length_counts_after_cleaning() -> None:
    assert sanitize_title("  " + "x" * MAX_TITLE_LENGTH + "\u200b\n") == "x" * MAX_TITLE_LENGTH
    with pytest.raises(ValueError, match=r"title too long: 101 characters, at most 100"):
        sanitize_title("x" * 101)


@given(awkward)
def test_cleaning_is_complete_and_stable(title: str) -> None:
    cleaned = sanitize_title(title)
    if cleaned is None:
        assert all(ord(c) in REMOVED or c.isspace() for c in title)
        return
    assert sanitize_title(cleaned) == cleaned
    assert not REMOVED.intersection(map(ord, cleaned))
    assert not any(c.isspace() and c != " " for c in cleaned)
    assert "  " not in cleaned
    assert cleaned.strip() == cleaned
    visible = [c for c in title if ord(c) not in REMOVED and not c.isspace()]
    assert [c for c in cleaned if c != " "] == visible


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("a #2", ("a", 2)),
        ("a #007", ("a", 7)),
        ("a #2 #3", ("a #2", 3)),
        ("a", ("a", None)),
        ("a #", ("a #", None)),
        ("a #draft", ("a #draft", None)),
        ("a #2b", ("a #2b", None)),
        ("a#2", ("a#2", None)),
        (" #2", (" #2", None)),
        ("a #2 ", ("a #2 ", None)),
        ("a #\u0662", ("a #\u0662", None)),
        ("a #" + "1" * 19, ("a #" + "1" * 19, None)),
    ],
)
def test_only_a_real_number_is_split_off(title: str, expected: tuple[str, int | None]) -> None:
    assert split_number(title) == expected


@given(st.text(min_size=1, max_size=120), st.integers(1, 10**18 - 1))
@example("x" * 97 + " yz", 2)
def test_a_numbered_title_fits_and_splits_again(base: str, number: int) -> None:
    title, stem = numbered(base, number)
    assert len(title) <= MAX_TITLE_LENGTH
    assert base.startswith(stem)
    if number > 1 and stem:
        assert split_number(title) == (stem, number)


def test_a_cut_base_leaves_a_title_that_cleaning_keeps() -> None:
    title, stem = numbered("x" * 96 + " " + "y" * 3, 2)
    assert (title, stem) == ("x" * 96 + " #2", "x" * 96)
    assert sanitize_title(title) == title
