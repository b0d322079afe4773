"""Long work over all messages, cut into slices that fit between two batches."""

from collections.abc import Callable
from typing import Final

import apsw

from sessiond.sqlite.ask import rows

HIGHEST: Final = 2**63 - 1

# What a row costs besides its bytes, as bytes.
_ROW_COST: Final = 200
_MOST_ROWS: Final = 5_000


class Pace:
    """How much to take on at once so that a slice lasts about ``seconds``."""

    def __init__(
        self, clock: Callable[[], float], seconds: float = 0.02, budget: float = 100_000
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._started = 0.0
        self.budget = budget

    def start(self) -> None:
        """A slice begins."""
        self._started = self._clock()

    def done(self, cost: int) -> None:
        """The slice is over; it had this cost."""
        spent = self._clock() - self._started
        if spent <= 0 or cost <= 0:
            return
        fitting = cost * self._seconds / spent
        # Half-way at most, so that one slow moment does not throw it off.
        self.budget = max(2_000.0, min(fitting, 2 * self.budget, 50e6))
        if spent > self._seconds:
            self.budget = min(self.budget, fitting)


class Range:
    """Ids over ``low`` up to ``high``; ``last``: nothing lies above."""

    __slots__ = ("cost", "high", "last", "low")

    def __init__(self, low: int, high: int, cost: int, *, last: bool) -> None:
        self.low = low
        self.high = high
        self.cost = cost
        self.last = last


def next_range(connection: apsw.Connection, low: int, budget: float) -> Range:
    """The messages after ``low`` whose texts make one slice; at least one, if there is one.

    In the last range ``high`` is the highest id there is, ``low`` if there is none above.
    """
    found = rows(
        connection,
        "SELECT id, octet_length(content) FROM messages WHERE id > ? ORDER BY id LIMIT ?",
        (low, _MOST_ROWS),
    )
    high, cost = low, 0
    for message_id, size in found:
        if cost and cost + (size or 0) > budget:
            return Range(low, high, cost, last=False)
        high = message_id
        cost += _ROW_COST + (size or 0)
    return Range(low, high, cost, last=len(found) < _MOST_ROWS)
