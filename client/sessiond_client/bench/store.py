"""A worker that goes through the daemon, as a gateway does: one call at a time, or many."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sessiond_client import AsyncSessionDB, SessionDB
from sessiond_client.bench.latency import Notes
from sessiond_client.bench.operations import (
    AddTokens,
    Append,
    AppendMany,
    ListSessions,
    Operation,
    ReadTranscript,
    Search,
    messages_in,
    worker_sessions,
)
from sessiond_protocol.errors import SessiondError

_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Target:
    """Which daemon is measured, and how clients read."""

    database: Path
    socket: Path | None
    reads: Literal["direct", "daemon", "auto"]

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for a client object that starts no daemon."""
        return {
            "db_path": self.database,
            "socket": self.socket,
            "reads": self.reads,
            "autostart": False,
            "timeout": _TIMEOUT,
        }


class ClientStore:
    """One call after the other, each answered before the next."""

    def __init__(self, target: Target, run: str, worker: int) -> None:
        self._db = SessionDB(**target.arguments)
        self._calls = _calls(self._db)
        for session in worker_sessions(worker, run):
            self._db.create_session(session, "bench")

    def perform(self, operation: Operation) -> None:
        """One call of its public interface."""
        self._calls[type(operation)](operation)

    def close(self) -> None:
        """Disconnect."""
        self._db.close()


class PipeliningStore:
    """Many calls on their way at once, on an event loop of its own."""

    def __init__(self, target: Target, run: str, worker: int) -> None:
        self._runner = asyncio.Runner()
        self.db = AsyncSessionDB(**target.arguments)
        self.calls = _calls(self.db)
        self._runner.run(self._create(worker_sessions(worker, run)))

    async def _create(self, sessions: list[str]) -> None:
        for session in sessions:
            await self.db.create_session(session, "bench")

    def perform(self, operation: Operation) -> None:
        """One call, waited for."""
        self.run(self.calls[type(operation)](operation))

    def run(self, work: Any) -> None:
        """Run a coroutine to its end."""
        self._runner.run(work)

    def close(self) -> None:
        """Disconnect."""
        self._runner.run(self.db.close())
        self._runner.close()


def keep_in_flight(
    count: int, store: PipeliningStore, operations: Iterator[Operation], notes: Notes
) -> None:
    """Keep ``count`` operations on their way."""
    store.run(_window(count, store, operations, notes))


async def _window(
    count: int, store: PipeliningStore, operations: Iterator[Operation], notes: Notes
) -> None:
    """Appends are handed over and answered in their order, so one window holds them all."""
    waiting: deque[tuple[Any, float, int]] = deque()
    append = store.db.append_message_nowait
    while waiting or notes.more():
        while len(waiting) < count and notes.more():
            operation = next(operations)
            started = notes.start()
            if isinstance(operation, Append):
                future = append(operation.message.session, **operation.message.arguments)
            else:
                future = asyncio.ensure_future(store.calls[type(operation)](operation))
            waiting.append((future, started, messages_in(operation)))
        await _settle(waiting, notes)


async def _settle(waiting: deque[tuple[Any, float, int]], notes: Notes) -> None:
    """Wait for the oldest, then take everything that has been answered with it."""
    if waiting and not waiting[0][0].done():
        await asyncio.wait([waiting[0][0]])
    while waiting and waiting[0][0].done():
        future, started, messages = waiting.popleft()
        error = future.exception()
        if error is None:
            notes.answered(started, messages)
        elif isinstance(error, SessiondError):
            notes.fail(error)
        else:
            raise error


def _calls(db: SessionDB | AsyncSessionDB) -> dict[type, Callable[[Any], Any]]:
    """What each kind of operation calls; with the asynchronous client, what to await."""

    def append(operation: Append) -> Any:
        return db.append_message(operation.message.session, **operation.message.arguments)

    def append_many(operation: AppendMany) -> Any:
        return db.append_messages(
            operation.session, [message.arguments for message in operation.messages]
        )

    def add_tokens(operation: AddTokens) -> Any:
        return db.update_token_counts(
            operation.session, operation.input_tokens, operation.output_tokens, operation.model
        )

    return {
        Append: append,
        AppendMany: append_many,
        AddTokens: add_tokens,
        ReadTranscript: lambda read: db.get_messages(read.session),
        ListSessions: lambda _: db.list_sessions_rich(limit=20),
        Search: lambda search: db.search_messages(search.word, limit=20),
    }
