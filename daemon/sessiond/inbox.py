"""The writer's inbox: bounded, filled by the event loop, emptied round-robin by the writer."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from sessiond.work import Work


class Inbox:
    """Requests waiting for the writer, one queue per connection.

    ``put`` never blocks and never refuses: the event loop asks ``full`` and stops reading
    instead, so nothing is dropped. ``take`` fills a batch round-robin over the connections, so
    that a bulk import does not starve an interactive turn.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._arrived = threading.Condition(threading.Lock())
        self._queues: dict[Any, deque[Work]] = {}
        self._errands: deque[Callable[[], None]] = deque()
        self._closed = False
        self.requests = 0
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether the bound in requests or in bytes is reached."""
        return self.requests >= self._max_requests or self.bytes >= self._max_bytes

    def put(self, works: list[Work]) -> None:
        """Add requests of one connection, in the order they were sent."""
        peer = works[0].peer
        with self._arrived:
            queue = self._queues.get(peer)
            if queue is None:
                queue = self._queues[peer] = deque()
            queue.extend(works)
            self.requests += len(works)
            self.bytes += sum(work.size for work in works)
            self._arrived.notify()

    def put_errand(self, errand: Callable[[], None]) -> None:
        """Have the writer run ``errand`` between batches."""
        with self._arrived:
            self._errands.append(errand)
            self._arrived.notify()

    def discard(self, peer: Any) -> list[Work]:
        """Take back what a connection has waiting; nobody will read its answers."""
        with self._arrived:
            queue = self._queues.pop(peer, None)
            works = list(queue) if queue else []
            self._account(works)
            return works

    def close(self) -> None:
        """Let ``wait`` return False once everything has been taken."""
        with self._arrived:
            self._closed = True
            self._arrived.notify()

    def wait(self, timeout: float | None) -> bool:
        """Wait until something is here. False when closed and empty."""
        with self._arrived:
            if not (self.requests or self._errands or self._closed):
                self._arrived.wait(timeout)
            return bool(self.requests or self._errands) or not self._closed

    def wait_for_more(self, writers: int, timeout: float) -> None:
        """Wait until at least ``writers`` connections have something here, or the time is up."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self._queues) >= writers or self._closed, timeout)

    def take_errands(self) -> list[Callable[[], None]]:
        """Everything the writer should run before its next batch."""
        with self._arrived:
            errands = list(self._errands)
            self._errands.clear()
            return errands

    @property
    def writers(self) -> int:
        """How many connections have requests waiting."""
        return len(self._queues)

    def take(self, max_requests: int, max_bytes: int) -> list[Work]:
        """The next batch: a share of each connection's queue in turn, in the order sent."""
        with self._arrived:
            taken = self._fill(max_requests, max_bytes)
            self._account(taken)
            return taken

    def _account(self, works: list[Work]) -> None:
        self.requests -= len(works)
        self.bytes -= sum(work.size for work in works)

    def _fill(self, max_requests: int, max_bytes: int) -> list[Work]:
        taken: list[Work] = []
        size = 0
        queues = self._queues
        share = max(1, max_requests // (len(queues) or 1))
        while queues and len(taken) < max_requests:
            for peer in list(queues):
                queue = queues.pop(peer)
                for _ in range(min(share, len(queue))):
                    if taken and (len(taken) >= max_requests or size >= max_bytes):
                        queues[peer] = queue
                        return taken
                    work = queue.popleft()
                    size += work.size
                    taken.append(work)
                if queue:
                    queues[peer] = queue  # to the end of the round
            share = max(1, (max_requests - len(taken)) // (len(queues) or 1))
        return taken
