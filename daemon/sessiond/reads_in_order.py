"""Reads of one connection that wait for its writes.

A read may name a number of its channel: it starts when every write up to that number is decided,
so that a client reads what it wrote. Everything here is the event loop's.
"""

from collections import deque
from collections.abc import Iterable

from sessiond.work import Entry, Work
from sessiond_protocol.requests import Kind


class ReadsInOrder:
    """Knows the numbers that are not answered yet, and holds the reads that wait for them."""

    def __init__(self) -> None:
        self._unanswered: deque[int] = deque()  # in the order they were sent
        self._held: list[tuple[int, Work]] = []

    def wrote(self, numbers: Iterable[int]) -> None:
        """Numbered writes were taken in, in this order."""
        self._unanswered.extend(numbers)

    def holds(self, read: Work) -> bool:
        """Keep a read if what it waits for is not decided; False: it can start."""
        after = read.seq
        if after is None or not self._unanswered or self._unanswered[0] > after:
            return False
        self._held.append((after, read))
        return True

    def answered(self, entry: Entry) -> None:
        """The oldest writes were answered."""
        if entry.seq is not None and entry.kind is Kind.WRITE:
            for _ in range(min(entry.count, len(self._unanswered))):
                self._unanswered.popleft()

    def released(self) -> list[Work]:
        """The reads that can start now, and are held no more."""
        if not self._held:
            return []
        lowest = self._unanswered[0] if self._unanswered else None
        held, self._held = self._held, []
        ready = []
        for after, read in held:
            if lowest is not None and lowest <= after:
                self._held.append((after, read))
            else:
                ready.append(read)
        return ready

    def clear(self) -> None:
        """Nobody waits for these reads any more."""
        self._held.clear()
