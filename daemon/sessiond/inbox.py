"""The writer's inbox: bounded, filled by the event loop, emptied round-robin by the writer."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from sessiond.work import Burst, Entry, requests_in


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
        self._queues: dict[Any, deque[Entry]] = {}
        self._errands: deque[Callable[[], None]] = deque()
        self._closed = False
        # The writer is not woken for less than this many connections or requests.
        self._enough_writers = self._enough_requests = 1
        self.requests = 0
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether the bound in requests or in bytes is reached."""
        return self.requests >= self._max_requests or self.bytes >= self._max_bytes

    def put(self, works: Sequence[Entry]) -> None:
        """Add requests of one connection, in the order they were sent."""
        peer = works[0].peer
        with self._arrived:
            queue = self._queues.get(peer)
            if queue is None:
                queue = self._queues[peer] = deque()
            queue.extend(works)
            self.requests += requests_in(works)
            self.bytes += sum(work.size for work in works)
            if self._is_enough():
                self._arrived.notify()

    def _is_enough(self) -> bool:
        return len(self._queues) >= self._enough_writers or self.requests >= self._enough_requests

    def put_errand(self, errand: Callable[[], None]) -> None:
        """Have the writer run ``errand`` between batches."""
        with self._arrived:
            self._errands.append(errand)
            self._arrived.notify()

    def discard(self, peer: Any) -> list[Entry]:
        """Take back what a connection has waiting; nobody will read its answers."""
        with self._arrived:
            return self._take_back(peer)

    def discard_all(self) -> list[Entry]:
        """Take back what every connection has waiting."""
        with self._arrived:
            return [work for peer in list(self._queues) for work in self._take_back(peer)]

    def discard_channel(self, channel: bytes, keep: Any = None) -> list[Entry]:
        """Take back what every connection but ``keep`` has waiting, if it is of this channel.

        Those that are closed already, too: hello's answer says what was decided, and what was
        sent before must not be decided after it.
        """
        with self._arrived:
            others = [peer for peer in self._queues if peer is not keep]
            return [work for peer in others for work in self._take_back(peer, channel)]

    def _take_back(self, peer: Any, channel: bytes | None = None) -> list[Entry]:
        queue = self._queues.get(peer, ())
        works = [work for work in queue if channel is None or work.channel == channel]
        if len(works) == len(queue):
            self._queues.pop(peer, None)
        elif works:
            self._queues[peer] = deque(work for work in queue if work.channel != channel)
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

    def wait_for_more(self, writers: int, requests: int, timeout: float) -> None:
        """Wait for so many connections or requests to have something here, or ``timeout``."""
        with self._arrived:
            self._enough_writers, self._enough_requests = writers, requests
            try:
                self._arrived.wait_for(lambda: self._is_enough() or self._closed, timeout)
            finally:
                self._enough_writers = self._enough_requests = 1

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

    def take(self, max_requests: int, max_bytes: int) -> list[Entry]:
        """The next batch: a share of each connection's queue in turn, in the order sent."""
        with self._arrived:
            taken = self._fill(max_requests, max_bytes)
            self._account(taken)
            return taken

    def _account(self, works: list[Entry]) -> None:
        self.requests -= requests_in(works)
        self.bytes -= sum(work.size for work in works)

    def _fill(self, max_requests: int, max_bytes: int) -> list[Entry]:
        taken: list[Entry] = []
        count = size = 0
        queues = self._queues
        share = max(1, max_requests // (len(queues) or 1))
        while queues and count < max_requests:
            for peer in list(queues):
                if taken and (count >= max_requests or size >= max_bytes):
                    return taken  # whoever got nothing this time comes first the next time
                queue = queues.pop(peer)
                end = min(count + share, max_requests)
                while queue and count < end:
                    work = queue.popleft()
                    if isinstance(work, Burst):
                        work, rest = work.split(end - count, max_bytes - size)
                        if rest is not None:
                            queue.appendleft(rest)
                    size += work.size
                    count += work.count
                    taken.append(work)
                    if size >= max_bytes:
                        break
                if queue:
                    queues[peer] = queue  # to the end of the round
            share = max(1, (max_requests - count) // (len(queues) or 1))
        return taken
