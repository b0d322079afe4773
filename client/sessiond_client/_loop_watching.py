"""``AsyncWatching``: what ``AsyncSessionDB.watch`` returns."""

from types import TracebackType
from typing import Self

from sessiond_client._loop_pump import LoopPump
from sessiond_client._watch import Watch
from sessiond_protocol.requests.feed import Event


class AsyncWatching:
    """An asynchronous iterator over what is committed; it ends when closed.

    It goes on across lost connections and restarts of the daemon. Usable with ``async with``.
    """

    def __init__(self, pump: LoopPump, session_id: str | None, after: int | None) -> None:
        self._pump = pump
        self._watch = Watch(session_id, after)
        self._closed = False
        pump.watch(self._watch)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._closed:
            event = self._watch.take()
            if event is not None:
                return event
            await self._pump.await_events(self._watch)
        raise StopAsyncIteration

    def close(self) -> None:
        """End the iteration, also in another task that waits in it."""
        if not self._closed:
            self._closed = True
            self._pump.unwatch(self._watch)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
