"""When a channel's row may go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.expiry import (
    MAX_AGE_SECONDS,
    MIN_UNCONNECTED_SECONDS,
    Row,
    expired,
    has_expired,
    is_proven_absent,
    makes_room,
)

HOUR = MIN_UNCONNECTED_SECONDS
DAY = MAX_AGE_SECONDS
NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("age", "unconnected", "goes"),
    [
        (2 * DAY, HOUR, True),
        (DAY + 1, 10 * DAY, True),
        (DAY, 10 * DAY, False),  # a day exactly is not over a day
        (2 * DAY, HOUR - 1, False),  # the wall clock jumped, or the daemon has just started
        (2 * DAY, 0.0, False),
        (1000 * DAY, None, False),  # connected, idle for ever
        (-5 * DAY, 10 * DAY, False),  # stored by a clock that went ahead: age zero
        (NOW, HOUR, True),  # stored in 1970
    ],
)
def test_a_row_goes_by_age_only_after_an_hour_of_our_own(
    age: float, unconnected: float | None, goes: bool
) -> None:
    row = Row(b"a", NOW - age, unconnected)
    assert has_expired(row, NOW) is goes
    assert expired([row], NOW) == ([b"a"] if goes else [])


rows_of_clients = st.lists(
    st.tuples(st.floats(-1e10, 1e10), st.none() | st.floats(0, 1e6)), max_size=30
).map(lambda drawn: [Row(bytes([place]), seen, away) for place, (seen, away) in enumerate(drawn)])


@given(rows_of_clients, st.integers(-3, 40))
def test_room_is_made_by_the_longest_unused_and_never_by_the_connected(
    rows: list[Row], excess: int
) -> None:
    by_id = {row.client_id: row for row in rows}
    gone = [by_id[each] for each in makes_room(rows, excess)]
    absent = [row for row in rows if is_proven_absent(row)]
    assert len(gone) == max(0, min(excess, len(absent)))
    assert all(row.unconnected is not None and row.unconnected >= HOUR for row in gone)
    stay = [row for row in absent if row not in gone]
    assert all(left.last_seen <= right.last_seen for left in gone for right in stay)


@given(rows_of_clients, st.floats(-1e10, 1e10))
def test_nobody_expires_who_would_not_have_to_make_room(rows: list[Row], wall: float) -> None:
    assert set(expired(rows, wall)) <= set(makes_room(rows, len(rows)))
