"""Running coroutines in tests, on either loop, and the few calls that most of them make."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop

from sessiond_client import AsyncSessionDB
from tests.support.clients import new_id
from tests.support.daemon import PATIENCE

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    """Runs a coroutine on either loop, with a ceiling."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:

        def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
            return runner.run(asyncio.wait_for(coroutine, 3 * PATIENCE))

        yield run


async def opened(db: AsyncSessionDB) -> str:
    """A new session."""
    name = new_id()
    await db.create_session(name, "cli")
    return name


async def contents(db: AsyncSessionDB, session_id: str) -> list[Any]:
    """What the session's messages say."""
    return [each["content"] for each in await db.get_messages(session_id)]


def append(db: AsyncSessionDB, session_id: str, text: str) -> asyncio.Task[int]:
    """A task that appends a message."""
    return asyncio.create_task(db.append_message(session_id, "user", text))
