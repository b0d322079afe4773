"""``Watching``: what ``SessionDB.watch`` returns."""

from types import TracebackType
from typing import Self

from sessiond_client._pump import Pump
from sessiond_client._watch import Watch
from sessiond_protocol.requests.feed import Event


class Watching:
    """An iterator over what is committed; it waits for the next event and ends when closed.

    It goes on across lost connections and restarts of the daemon. Usable as a context manager.
    """

    def __init__(self, pump: Pump, session_id: str | None, after: int | None) -> None:
        self._pump = pump
        self._watch = Watch(session_id, after)
        self._closed = False
        pump.watch(self._watch)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._closed:
            event = self._watch.take()
            if event is not None:
                return event
            self._pump.await_events(self._watch)
        raise StopIteration

    def close(self) -> None:
        """End the iteration, also in another thread that waits in it."""
        if not self._closed:
            self._closed = True
            self._pump.unwatch(self._watch)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
