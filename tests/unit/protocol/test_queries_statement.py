"""What the read queries share."""

import pytest

from sessiond_protocol.queries.statement import MAX_SOURCES, listed, page_bounds, where


def test_no_limit_means_all() -> None:
    assert page_bounds(None) == (-1, 0)
    assert page_bounds(0, 3) == (0, 3)


@pytest.mark.parametrize(
    ("limit", "offset", "named"), [(-1, 0, "limit"), (1, -1, "offset"), (2**63, 0, "limit")]
)
def test_bounds_are_refused_by_name(limit: int, offset: int, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named} must be between 0 and "):
        page_bounds(limit, offset)


def test_lists_bind_each_value_once() -> None:
    assert listed("source", ["a", "b", "a"], "exclude_sources", negated=True) == (
        "source NOT IN (?, ?)",
        ["a", "b"],
    )


def test_text_is_no_list() -> None:
    with pytest.raises(ValueError, match=r"^exclude_sources must be a list of text, not text$"):
        listed("source", "cron", "exclude_sources")


def test_a_list_is_bounded() -> None:
    values = [str(i) for i in range(MAX_SOURCES + 1)]
    with pytest.raises(ValueError, match=r"^source_filter has 1001 entries, at most 1000 "):
        listed("source", values, "source_filter")


def test_conditions_are_joined_in_order() -> None:
    assert where([]) == ("", [])
    assert where([("a = ?", [1]), ("b IN (?, ?)", [2, 3])]) == (
        " WHERE a = ? AND b IN (?, ?)",
        [1, 2, 3],
    )
