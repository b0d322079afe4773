"""The asyncio client behind blocking calls, so that one writer can torture either."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from sessiond_client import AsyncSessionDB, SessionDB

T = TypeVar("T")
Fill = Callable[[Any], object]


class Store(Protocol):
    """What a writer needs of a client."""

    def create_session(self, session_id: str, source: str) -> str: ...
    def append_message(self, session_id: str, **message: Any) -> int: ...
    def append_message_nowait(self, session_id: str, **message: Any) -> Future[int]: ...
    def append_messages(
        self, session_id: str, messages: Sequence[Mapping[str, Any]]
    ) -> list[int]: ...
    def update_token_counts(self, session_id: str, *, input_tokens: int, wait: bool) -> None: ...
    def message_count(self, session_id: str) -> int: ...
    def flush(self) -> None: ...
    def batch(self, fill: Fill) -> list[Any]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Blocking:
    """The blocking client; its batch is filled by a function."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._db = SessionDB(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def batch(self, fill: Fill) -> list[Any]:
        """Send as one unit what ``fill`` collects; the results."""
        with self._db.batch() as batch:
            fill(batch)
        return batch.results

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()


class Looped:
    """The asyncio client on a loop of its own, in a thread."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()
        self._db = AsyncSessionDB(*arguments, **options)

    def _start(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._db, name)

        def call(*arguments: Any, **options: Any) -> Any:
            return self._start(method(*arguments, **options)).result()

        return call

    def append_message_nowait(self, session_id: str, **message: Any) -> Future[int]:
        """Begin an append: tasks take their first steps in the order in which they were made."""

        async def append() -> int:
            return await self._db.append_message_nowait(session_id, **message)

        return self._start(append())

    def batch(self, fill: Fill) -> list[Any]:
        """Send as one unit what ``fill`` collects; the results."""

        async def apply() -> list[Any]:
            async with self._db.batch() as batch:
                fill(batch)
            return batch.results

        return self._start(apply()).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._start(self._db.close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
