"""Columns fit: narrowed from the widest, left out from the right."""

from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.cli.fitting import fit


def test_what_fits_is_left_as_it_is() -> None:
    assert fit([24, 10, 8], [24, 10, 8], 80, 2) == [24, 10, 8]


def test_the_widest_are_narrowed_first() -> None:
    assert fit([36, 30, 8], [24, 12, 8], 60, 2) == [24, 24, 8]


def test_none_is_narrowed_below_its_least() -> None:
    assert fit([36, 30, 8], [24, 12, 8], 50, 2) == [24, 14, 8]


def test_columns_are_left_out_from_the_right() -> None:
    assert fit([24, 12, 10, 8, 11], [24, 12, 10, 8, 11], 40, 2) == [24, 12]


def test_the_first_stays_however_narrow_it_gets() -> None:
    assert fit([36, 12], [24, 12], 10, 2) == [24]


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 24)), min_size=1, max_size=8),
    st.integers(1, 200),
)
def test_columns_fit_unless_one_alone_does_not(columns: list[tuple[int, int]], room: int) -> None:
    natural = [width for width, _ in columns]
    least = [min(width, bound) for width, bound in columns]
    widths = fit(natural, least, room, 2)
    assert sum(widths) + 2 * (len(widths) - 1) <= room or len(widths) == 1
    shown = zip(widths, natural, least, strict=False)
    assert all(bound <= width <= wanted for width, wanted, bound in shown)
