"""One face for all clients, so that one test says what every one of them does."""

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

import uvloop

from sessiond_client import AsyncSessionDB, SessionDB

Reads = Literal["direct", "daemon", "auto"]

# libuv makes one pipe for the whole process with its first loop, and keeps it: here, before any
# test counts descriptors.
uvloop.new_event_loop().close()

# Every way in which a program may use the library.
KINDS: Final = ("sync-auto", "sync-direct", "sync-daemon", "asyncio-daemon", "uvloop-direct")


class OnLoop:
    """The asyncio client with the blocking client's calls: each runs on a loop to its end."""

    def __init__(self, runner: asyncio.Runner, db: AsyncSessionDB) -> None:
        self._runner = runner
        self._db = db

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._db, name)
        if inspect.iscoroutinefunction(found):
            return self._awaiting(found)
        return found

    def _awaiting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **named: self._runner.run(function(*args, **named))

    def append_message_nowait(self, *args: Any, **named: Any) -> "Eventually":
        """A future with the ``result`` of a blocking one."""

        async def start() -> asyncio.Future[int]:
            return self._db.append_message_nowait(*args, **named)

        return Eventually(self._runner, self._runner.run(start()))

    def iter_export(self, source: str | None = None) -> Iterator[dict[str, Any]]:
        """What the asynchronous iterator yields."""

        async def collect(exported: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
            return [each async for each in exported]

        return iter(self._runner.run(collect(self._db.iter_export(source))))

    def batch(self) -> "BatchOnLoop":
        """A batch whose block needs no ``async``."""
        return BatchOnLoop(self._runner, self._db.batch())

    def __enter__(self) -> Self:
        self._runner.run(self._db.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self._db.__aexit__(kind, error, trace))


class Eventually:
    """An asyncio future that can be waited for from outside the loop."""

    def __init__(self, runner: asyncio.Runner, future: asyncio.Future[Any]) -> None:
        self._runner = runner
        self._future = future

    def result(self) -> Any:
        """The result, or the error raised."""

        async def wait() -> Any:
            return await self._future

        return self._runner.run(wait())


class BatchOnLoop:
    """An asynchronous batch in a plain ``with`` block."""

    def __init__(self, runner: asyncio.Runner, batch: Any) -> None:
        self._runner = runner
        self._batch = batch

    def __enter__(self) -> Any:
        return self._runner.run(self._batch.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self._batch.__aexit__(kind, error, trace))


@contextmanager
def client(kind: str, arguments: dict[str, Any]) -> Iterator[SessionDB]:
    """A client of one of :data:`KINDS`, closed at the end."""
    loop, _, reads = kind.partition("-")
    named = {**arguments, "reads": cast(Reads, reads)}
    if loop == "sync":
        with SessionDB(**named) as db:
            yield db
        return
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with (
        asyncio.Runner(loop_factory=factory) as runner,
        OnLoop(runner, AsyncSessionDB(**named)) as db,
    ):
        yield cast(SessionDB, db)


def new_id(what: str = "session") -> str:
    """A name that no other test uses."""
    return f"{what}-{uuid.uuid4().hex[:12]}"
