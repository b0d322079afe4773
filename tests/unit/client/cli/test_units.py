"""Numbers, sizes and times as people read them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.cli import units

DAY = 86_400


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (200 * 1024, "200 KiB"),
        (64 * 1024**2, "64 MiB"),
        (10.25 * 1024**3, "10.2 GiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes_are_binary(amount: float, text: str) -> None:
    assert units.size(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.000125, "0.125 ms"),
        (0.0025, "2.5 ms"),
        (0.01, "10 ms"),
        (0.0256, "25.6 ms"),
        (0.25, "250 ms"),
        (3.2, "3,200 ms"),
    ],
)
def test_latencies_are_milliseconds_with_three_digits(seconds: float, text: str) -> None:
    assert units.milliseconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3 * 3600 + 12 * 60 + 5, "3 h 12 min"),
        (3 * 3600 + 5, "3 h"),
        (5 * DAY + 2 * 3600, "5 d 2 h"),
    ],
)
def test_spans_have_two_units(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (0, "just now"),
        (-5, "just now"),
        (42, "42 s ago"),
        (119, "1 min ago"),
        (7200, "2 h ago"),
        (27 * DAY, "27 d ago"),
    ],
)
def test_how_long_ago_in_one_unit(passed: float, text: str) -> None:
    assert units.ago(1000 * DAY - passed, 1000 * DAY) == text


@pytest.mark.parametrize("passed", [28 * DAY, -2 * DAY])
def test_what_is_long_ago_or_to_come_is_a_date(passed: float) -> None:
    then = 1000 * DAY - passed
    assert units.ago(then, 1000 * DAY) == time.strftime("%Y-%m-%d", time.localtime(then))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_stored_time_is_an_error(seconds: float) -> None:
    assert units.local_time(seconds)
    assert units.local_date(seconds)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 sessions"), (1, "1 session"), (2000, "2,000 sessions")]
)
def test_nouns_agree_with_their_number(number: int, text: str) -> None:
    assert units.plural(number, "session") == text


def test_the_time_of_day_has_the_date_of_another_day() -> None:
    noon = time.mktime((2025, 11, 21, 12, 0, 0, 0, 0, -1))
    assert units.clock_time(noon, noon + 3600) == "12:00:00"
    assert units.clock_time(noon, noon + DAY) == "2025-11-21 12:00:00"
    assert units.clock_time(1e300, noon) == "1e+300"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.004, "0.00 s"), (0.123, "0.12 s"), (3.44, "3.4 s"), (123, "2 min 3 s")]
)
def test_what_something_took(seconds: float, text: str) -> None:
    assert units.span(seconds) == text
