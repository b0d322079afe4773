"""Staleness: instants, whatever the wall clock does."""

import time as process_time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond_client.gateway import SessionResetPolicy
from sessiond_client.gateway.staleness import latest_reset, stale_reason

MINUTE, HOUR, DAY = 60, 3600, 86400
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    """A UTC time in ISO 8601 as Unix seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


# Zone and a day with a change of the clock, in UTC: an hour, half an hour, at midnight, over
# midnight, a day that was left out, one change between two others (Ramadan), and none.
CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Africa/Casablanca", "2026-03-22"),
    ("America/St_Johns", "2010-03-14"),
    ("America/St_Johns", "2010-11-07"),
    ("America/Sao_Paulo", "2018-02-18"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Havana", "2024-11-03"),
    ("Pacific/Apia", "2011-12-30"),
    ("Antarctica/Troll", "2026-03-29"),
    ("Asia/Kathmandu", "2026-03-29"),
]


@cache
def resets_by_walking(zone: str, day: str, at_hour: int) -> list[float]:
    """Every daily reset of the days around ``day``, by reading the wall clock each minute.

    The oracle: per date the first minute at which the clock has reached the hour.
    """
    start = int(at(day)) - 4 * DAY
    resets: dict[date, float] = {}
    # The dates whose hour is already behind when the walk begins are not this walk's.
    begun = datetime.fromtimestamp(start, ZoneInfo(zone)).date()
    latest = begun
    for instant in range(start, start + 8 * DAY, MINUTE):
        wall = datetime.fromtimestamp(instant, ZoneInfo(zone)).replace(tzinfo=None)
        latest = max(latest, wall.date())
        for each in (begun + timedelta(days=n) for n in range(1, (latest - begun).days + 1)):
            if each not in resets and wall >= datetime(each.year, each.month, each.day, at_hour):
                resets[each] = instant
    return sorted(resets.values())


@given(
    st.sampled_from(CHANGES),
    st.integers(0, 23),
    st.floats(-DAY, 2 * DAY) | st.integers(-24 * 60, 48 * 60).map(lambda minute: minute * 60.0),
)
@example(("Europe/Berlin", "2026-03-29"), 2, 1.0 * HOUR)
@example(("America/St_Johns", "2010-11-07"), 0, 2.0 * HOUR + 35 * MINUTE)
def test_the_latest_reset_is_what_a_walk_along_the_clock_finds(
    change: tuple[str, str], at_hour: int, offset: float
) -> None:
    zone, day = change
    now = at(day) + offset
    expected = max(each for each in resets_by_walking(zone, day, at_hour) if each <= now)
    assert latest_reset(now, at_hour, ZoneInfo(zone)) == expected


@pytest.mark.parametrize(
    ("zone", "now", "at_hour", "expected"),
    [
        # Clocks jump from 02:00 to 03:00.
        ("Europe/Berlin", "2026-03-29T01:00", 2, "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-03-29T00:59:59", 2, "2026-03-28T01:00"),
        # From 02:00 back to 01:00: 01:00 comes twice, and the first time counts.
        ("America/New_York", "2026-11-01T06:30", 1, "2026-11-01T05:00"),
        # From 02:00 to 02:30.
        ("Australia/Lord_Howe", "2026-10-03T18:00", 2, "2026-10-03T15:30"),
        # From 00:01 to 01:01: 01:00 is skipped in the middle of the jump.
        ("America/St_Johns", "2010-03-14T12:00", 1, "2010-03-14T03:31"),
        # The 30th is left out: the next instant is midnight of the 31st.
        ("Pacific/Apia", "2011-12-30T11:00", 4, "2011-12-30T10:00"),
        ("Pacific/Apia", "2011-12-30T14:00", 4, "2011-12-30T14:00"),
        ("Asia/Kathmandu", "2026-03-29T12:00", 4, "2026-03-28T22:15"),
    ],
)
def test_hours_that_are_skipped_or_come_twice(
    zone: str, now: str, at_hour: int, expected: str
) -> None:
    assert latest_reset(at(now), at_hour, ZoneInfo(zone)) == at(expected)


def test_an_hour_that_comes_twice_resets_once() -> None:
    policy = SessionResetPolicy("daily", at_hour=2)
    first, second = at("2026-10-25T00:00"), at("2026-10-25T01:00")  # 02:00 in Berlin, both
    assert stale_reason(first - 1, first, policy, BERLIN) == "daily"
    assert stale_reason(first, second + 10 * MINUTE, policy, BERLIN) is None


@given(st.sampled_from(CHANGES), st.floats(-DAY, 2 * DAY), st.integers(0, 3000))
def test_idle_time_is_time_that_passed(
    change: tuple[str, str], offset: float, minutes: int
) -> None:
    zone, day = change
    policy = SessionResetPolicy("idle", idle_minutes=minutes)
    touched = float(int(at(day) + offset))
    limit = touched + minutes * MINUTE
    assert stale_reason(touched, limit, policy, ZoneInfo(zone)) is None
    assert stale_reason(touched, limit + 0.001, policy, ZoneInfo(zone)) == "idle"


@given(
    st.sampled_from(CHANGES),
    st.floats(-DAY, 2 * DAY),
    st.floats(0, 10 * DAY),
    st.sampled_from(["daily", "idle", "both", "none"]),
    st.integers(0, 23),
)
def test_a_clock_that_was_set_back_makes_nothing_stale(
    change: tuple[str, str], offset: float, step: float, mode: str, at_hour: int
) -> None:
    zone, day = change
    touched = at(day) + offset
    policy = SessionResetPolicy(mode, at_hour, 0)
    assert stale_reason(touched, touched - step, policy, ZoneInfo(zone)) is None


@given(st.sampled_from(CHANGES), st.floats(-DAY, DAY), st.floats(0, DAY), st.integers(0, 23))
def test_once_stale_stays_stale_until_touched(
    change: tuple[str, str], offset: float, later: float, at_hour: int
) -> None:
    zone = ZoneInfo(change[0])
    policy = SessionResetPolicy("daily", at_hour)
    now = at(change[1]) + offset
    reset = latest_reset(now, at_hour, zone)
    assert stale_reason(reset - 1, now, policy, zone) == "daily"
    assert stale_reason(reset - 1, now + later, policy, zone) == "daily"
    assert stale_reason(reset, now, policy, zone) is None
    assert stale_reason(now, now, policy, zone) is None


def test_idle_is_asked_before_daily() -> None:
    now = at("2026-06-01T12:00")
    for mode, expected in [("both", "idle"), ("daily", "daily"), ("idle", "idle"), ("none", None)]:
        assert stale_reason(now - 2 * DAY, now, SessionResetPolicy(mode), BERLIN) == expected
    both = SessionResetPolicy("both", at_hour=4, idle_minutes=10 * 1440)
    assert stale_reason(now - 2 * DAY, now, both, BERLIN) == "daily"


@pytest.fixture
def berlin_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    process_time.tzset()
    yield
    monkeypatch.undo()
    process_time.tzset()


@pytest.mark.usefixtures("berlin_process")
def test_without_a_zone_the_system_s_counts() -> None:
    system: tzinfo | None = None
    for day in ("2026-03-29", "2026-06-01", "2026-10-25", "2026-12-01"):
        for hour in range(24):
            for quarter in range(-96, 96, 3):
                now = at(day) + quarter * 15 * MINUTE
                assert latest_reset(now, hour, system) == latest_reset(now, hour, BERLIN)
