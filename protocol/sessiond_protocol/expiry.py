"""When the daemon may forget a channel. Pure: times and connections are arguments.

Forgetting is dangerous: a client that comes back and sends an old number again would be taken for
a new one. A client gives a write up after half an hour at the latest, on a clock that goes on
while the machine sleeps. So a row goes only when its time without a connection is proven by this
daemon's own clock, whatever the wall clock says: it may have been set, or the machine slept.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

MAX_AGE_SECONDS: Final = 86_400.0
MIN_UNCONNECTED_SECONDS: Final = 3_600.0
MAX_ROWS: Final = 10_000


class Row(NamedTuple):
    """One stored channel.

    ``last_seen`` is the wall clock's time of its last use. ``unconnected`` is how many seconds
    this daemon has been up without a connection of it, None while one holds it.
    """

    client_id: bytes
    last_seen: float
    unconnected: float | None


def is_proven_absent(row: Row) -> bool:
    """Whether this daemon itself has gone without a connection of the channel for an hour."""
    return row.unconnected is not None and row.unconnected >= MIN_UNCONNECTED_SECONDS


def has_expired(row: Row, wall: float) -> bool:
    """Whether a row goes by its age. A time in the future counts as now."""
    return is_proven_absent(row) and max(0.0, wall - row.last_seen) > MAX_AGE_SECONDS


def expired(rows: Iterable[Row], wall: float) -> list[bytes]:
    """The channels that go by their age."""
    return [row.client_id for row in rows if has_expired(row, wall)]


def makes_room(rows: Iterable[Row], excess: int) -> list[bytes]:
    """Up to ``excess`` channels that go before their time, those unused for longest first."""
    absent = sorted((row for row in rows if is_proven_absent(row)), key=_last_seen)
    return [row.client_id for row in absent[: max(0, excess)]]


def _last_seen(row: Row) -> float:
    return row.last_seen
