"""Cancelling calls of the asyncio client: never sent, or honestly on its way."""

import asyncio
import signal
import threading
from typing import Any

import pytest

from sessiond_client import AsyncSessionDB, Timeout
from sessiond_client._direct import DirectReader
from sessiond_client._link import State
from tests.support.daemon import PATIENCE, Daemon
from tests.support.loops import Run, append, contents, opened


async def noticed(db: AsyncSessionDB) -> None:
    """Wait until the client has seen that its connection is gone."""
    shared = db._connection
    assert shared is not None
    while shared.pump.link.state is State.UP:  # noqa: ASYNC110 (nobody is told of it)
        await asyncio.sleep(0)


def cancel(task: asyncio.Task[int]) -> None:
    task.cancel()


def test_cancelled_before_it_is_sent_is_never_sent(run: Run[None], own_daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**own_daemon.arguments) as db:
            name = await opened(db)
            own_daemon.stop()
            await noticed(db)
            task = append(db, name, "task")
            await asyncio.sleep(0)
            future = db.append_message_nowait(name, "user", "future")
            task.cancel()
            future.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert not hasattr(caught.value, "data")
            with pytest.raises(asyncio.CancelledError):
                await future
            assert future.data is None
            own_daemon.start()
            await db.append_message(name, "user", "later")
            assert await contents(db, name) == ["later"]

    run(main())


def test_cancelled_after_it_was_sent_tells_its_number(run: Run[None], daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments) as db:
            name = await opened(db)
            task = append(db, name, "sent")
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert "request_status" in caught.value.__notes__[0]
            data: dict[str, Any] = caught.value.data  # type: ignore[attr-defined]
            later = await db.append_message(name, "user", "later")
            assert await db.request_status(**data) == "applied"
            assert await contents(db, name) == ["sent", "later"]
            assert await db.append_message(name, "user", "last") > later

    run(main())


def test_cancelled_in_the_moment_of_the_answer_tells_its_number_too(
    run: Run[None], daemon: Daemon
) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments) as db:
            name = await opened(db)
            task = append(db, name, "answered")
            await asyncio.sleep(0)
            shared = db._connection
            assert shared is not None
            (call,) = shared.pump.link.unfinished()
            call.wakers += (lambda _: cancel(task),)
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            for number in range(5):
                await db.append_message(name, "user", str(number))
            data: dict[str, Any] = caught.value.data  # type: ignore[attr-defined]
            assert await db.request_status(**data) == "applied"

    run(main())


def test_a_future_cancelled_after_it_was_sent_has_its_number(
    run: Run[None], daemon: Daemon
) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments) as db:
            name = await opened(db)
            future = db.append_message_nowait(name, "user", "sent")
            assert future.cancel()
            assert not future.cancel()
            assert future.data is not None
            await db.append_message(name, "user", "later")
            assert await db.request_status(**future.data) == "applied"
            assert await contents(db, name) == ["sent", "later"]

    run(main())


@pytest.mark.parametrize("way", ["timeout", "wait_for"])
def test_asyncios_own_deadlines_keep_the_number(
    run: Run[None], own_daemon: Daemon, way: str
) -> None:
    async def late(db: AsyncSessionDB, name: str) -> None:
        if way == "wait_for":
            await asyncio.wait_for(db.append_message(name, "user", "late"), 0.05)
        else:
            async with asyncio.timeout(0.05):
                await db.append_message(name, "user", "late")

    async def main() -> None:
        async with AsyncSessionDB(**own_daemon.arguments) as db:
            name = await opened(db)
            own_daemon.signal(signal.SIGSTOP)
            with pytest.raises(TimeoutError) as caught:
                await late(db, name)
            own_daemon.signal(signal.SIGCONT)
            data = caught.value.__cause__.data  # type: ignore[union-attr]
            await db.append_message(name, "user", "later")
            assert await db.request_status(**data) == "applied"
            assert await contents(db, name) == ["late", "later"]

    run(main())


def test_many_cancelled_calls_leave_the_connection_usable(run: Run[None], daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments) as db:
            name = await opened(db)
            tasks = [append(db, name, str(number)) for number in range(2000)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled = [each for each in results if isinstance(each, asyncio.CancelledError)]
            assert len(cancelled) == 1000
            ids = [each for each in results if isinstance(each, int)]
            assert ids == sorted(set(ids))
            # All of them were in the send buffer: they are stored, and their answers swallowed.
            assert await contents(db, name) == [str(number) for number in range(2000)]
            shared = db._connection
            assert shared is not None
            assert shared.pump.link.unfinished() == []

    run(main())


def test_a_cancelled_read_stops_reading(
    run: Run[None], daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), threading.Event()

    def read(self: DirectReader, request: Any, deadline: float, wanted: Any) -> None:
        began.set()
        while wanted():
            pass
        ended.set()
        raise Timeout("it was told to stop")

    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments, reads="direct") as db:
            await db.session_count()
            monkeypatch.setattr(DirectReader, "read", read)
            task = asyncio.create_task(db.session_count())
            assert await asyncio.to_thread(began.wait, PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(ended.wait, PATIENCE)
            monkeypatch.undo()
            await db.session_count()

    run(main())
