"""What only the asyncio client has: many calls at once, loops that come and go."""

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest
import uvloop

from sessiond_client import AsyncSessionDB, Closed, OutcomeUnknown, SessionDB, Timeout, Unavailable
from sessiond_client._direct import DirectReader
from tests.support.clients import new_id
from tests.support.daemon import PATIENCE, Daemon
from tests.support.loops import Run, append, contents, opened

# --- many at once --------------------------------------------------------------------------


def test_thousands_of_calls_at_once(run: Run[None], daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments) as db:
            name = await opened(db)
            texts = [str(number) for number in range(6000)]
            ids = await asyncio.gather(*(db.append_message(name, "user", each) for each in texts))
            assert ids == sorted(set(ids))
            assert await contents(db, name) == texts
            reads = await asyncio.gather(*(db.message_count(name) for _ in range(3000)))
            assert set(reads) == {6000}

    run(main())


@pytest.mark.parametrize("asynchronous", [True, False])
def test_what_was_answered_needs_no_garbage_collector(daemon: Daemon, asynchronous: bool) -> None:
    """A future and its call know each other only until the answer is there."""

    async def main() -> weakref.ref[Any]:
        async with AsyncSessionDB(**daemon.arguments) as db:
            future = db.append_message_nowait(await opened(db), "user", "text")
            await future
            return weakref.ref(future)

    def blocking() -> weakref.ref[Any]:
        with SessionDB(**daemon.arguments) as db:
            name = new_id()
            db.create_session(name, "test")
            future = db.append_message_nowait(name, "user", "text")
            future.result(PATIENCE)
            return weakref.ref(future)

    gc.disable()
    try:
        left = asyncio.run(main()) if asynchronous else blocking()
        assert left() is None
    finally:
        gc.enable()


def test_a_read_sees_every_write_that_was_begun_before_it(run: Run[None], daemon: Daemon) -> None:
    async def main(**named: Any) -> None:
        async with AsyncSessionDB(**daemon.arguments, **named) as db:
            name = await opened(db)
            await db.message_count(name)
            tasks = [append(db, name, str(number)) for number in range(200)]
            await asyncio.sleep(0)
            assert await db.message_count(name) == 200
            await asyncio.gather(*tasks)

    run(main(reads="daemon"))
    run(main(reads="direct"))


def test_objects_on_one_loop_share_one_connection(run: Run[None], daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments) as first:
            before = (await first.get_stats())["connections"]
            others = [AsyncSessionDB(**daemon.arguments) for _ in range(20)]
            await asyncio.gather(*(each.session_count() for each in others))
            assert (await first.get_stats())["connections"] == before
            for each in others:
                await each.close()
            await first.session_count()

    run(main())


def test_an_object_per_task_made_and_closed_all_the_time(run: Run[None], daemon: Daemon) -> None:
    async def one(name: str, number: int) -> None:
        async with AsyncSessionDB(**daemon.arguments) as db:
            await db.append_message(name, "user", str(number))
            assert str(number) in await contents(db, name)

    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments) as db:
            name = await opened(db)
        for _ in range(3):
            await asyncio.gather(*(one(name, number) for number in range(20)))
        async with AsyncSessionDB(**daemon.arguments) as db:
            assert await db.message_count(name) == 60

    run(main())


def test_nothing_is_left_behind_on_the_loop(run: Run[None], daemon: Daemon) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with AsyncSessionDB(**daemon.arguments, reads="direct") as db:
            name = await opened(db)
            await db.update_token_counts(name, 1, wait=False)
            await asyncio.gather(*(db.get_session(name) for _ in range(10)))
        assert asyncio.all_tasks() == before
        assert not [each for each in threading.enumerate() if each.name.startswith("sessiond")]

    run(main())


def test_a_direct_read_does_not_block_the_loop(
    run: Run[None], daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = threading.Event()
    real = DirectReader.read

    def read(self: DirectReader, *args: Any) -> Any:
        assert turned.wait(PATIENCE), "the loop stood still while the file was read"
        return real(self, *args)

    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments, reads="direct") as db:
            await db.session_count()
            monkeypatch.setattr(DirectReader, "read", read)
            reading = asyncio.create_task(db.session_count())
            await asyncio.sleep(0.01)
            assert not reading.done()
            turned.set()
            await reading

    run(main())


# --- deadlines, lost connections -----------------------------------------------------------


def test_a_write_nobody_answers_in_time_has_an_unknown_outcome(
    run: Run[None], own_daemon: Daemon
) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**own_daemon.arguments) as patient:
            name = await opened(patient)
            own_daemon.signal(signal.SIGSTOP)
            hasty = AsyncSessionDB(**own_daemon.arguments, timeout=0.2, reads="daemon")
            write, read = append(hasty, name, "late"), asyncio.create_task(hasty.get_session(name))
            with pytest.raises(OutcomeUnknown) as caught:
                await write
            with pytest.raises(Timeout):
                await read
            await hasty.close()
            own_daemon.signal(signal.SIGCONT)
            for _ in range(5):
                await patient.append_message(name, "user", "later")
            # The daemon may have found its time over, too; both say what really happened.
            status = await patient.request_status(**caught.value.data)
            stored = (await contents(patient, name)).count("late")
            assert (status, stored) in {("applied", 1), ("failed", 0)}

    run(main())


def test_no_daemon_ends_in_time_and_says_what_to_do(run: Run[None], own_daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**own_daemon.arguments, timeout=0.2) as db:
            own_daemon.stop()
            tasks = [append(db, "x", str(number)) for number in range(100)]
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(each) for each in results} == {Unavailable}
            assert "sessiond serve" in str(results[0])
            own_daemon.start()
            db._timeout = PATIENCE
            await opened(db)

    run(main())


def test_a_killed_daemon_loses_and_doubles_nothing(run: Run[None], own_daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**own_daemon.arguments) as db:
            name = await opened(db)
            for _ in range(3):
                tasks = [append(db, name, str(number)) for number in range(500)]
                await tasks[20]
                own_daemon.kill()
                own_daemon.start()
                await asyncio.gather(*tasks)
            assert await contents(db, name) == [str(number) for number in range(500)] * 3

    run(main())


def test_closing_ends_what_others_wait_for(run: Run[None], own_daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncSessionDB(**own_daemon.arguments) as patient:
            name = await opened(patient)
        db = AsyncSessionDB(**own_daemon.arguments, timeout=1.0, reads="daemon")
        await db.session_count()
        own_daemon.signal(signal.SIGSTOP)
        waiting = [append(db, name, "x"), asyncio.create_task(db.message_count(name))]
        await asyncio.sleep(0)
        with contextlib.suppress(Timeout):  # its time may be up a moment sooner than theirs
            await db.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], OutcomeUnknown)
        assert isinstance(results[1], Timeout | Closed)
        await db.close()
        own_daemon.signal(signal.SIGCONT)

    run(main())


def test_closing_while_it_connects(run: Run[None], own_daemon: Daemon) -> None:
    async def main() -> None:
        own_daemon.stop()
        db = AsyncSessionDB(**own_daemon.arguments)
        reading = asyncio.create_task(db.session_count())
        await asyncio.sleep(0.03)
        await db.close()
        with pytest.raises(Closed):
            await reading
        own_daemon.start()

    run(main())


# --- loops ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_object_goes_on_after_its_loop_was_closed(daemon: Daemon, factory: Any) -> None:
    db = AsyncSessionDB(**daemon.arguments, reads="direct")

    async def first() -> str:
        name = await opened(db)
        await db.append_message(name, "user", "first")
        await db.update_token_counts(name, 5, wait=False)
        return name

    async def second(name: str) -> None:
        await db.append_message(name, "user", "second")
        assert await contents(db, name) == ["first", "second"]
        found = await db.get_session(name)
        assert found is not None
        assert found["input_tokens"] == 5
        await db.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        name = runner.run(first())
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(second(name))


def test_an_object_belongs_to_one_loop_at_a_time(daemon: Daemon) -> None:
    db = AsyncSessionDB(**daemon.arguments)
    with asyncio.Runner() as runner:
        runner.run(db.session_count())
        with asyncio.Runner() as other:
            with pytest.raises(RuntimeError, match="another event loop"):
                other.run(db.session_count())
            with pytest.raises(RuntimeError, match="another event loop"):
                other.run(db.close())
        runner.run(db.close())


def test_every_loop_has_a_connection_of_its_own(daemon: Daemon) -> None:
    async def main(number: int) -> int:
        async with AsyncSessionDB(**daemon.arguments) as db:
            name = await opened(db)
            await asyncio.gather(*(append(db, name, str(n)) for n in range(100)))
            return await db.message_count(name) + number

    results: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(asyncio.run(main(n)))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(results) == [100, 101, 102, 103]


PROGRAM = """
import asyncio, sys
from sessiond_client import AsyncSessionDB, SessionDB

def arguments():
    return {"db_path": sys.argv[1], "socket": sys.argv[2], "autostart": False}

async def asynchronous():
    db = AsyncSessionDB(**arguments())
    for _ in range(10):
        await db.update_token_counts(sys.argv[3], 1, wait=False)

def blocking():
    db = SessionDB(**arguments())
    db.create_session(sys.argv[3], "cli")
    for number in range(100):
        db.append_message_nowait(sys.argv[3], "user", str(number))
        db.update_token_counts(sys.argv[3], 1, wait=False)

asyncio.run(asynchronous()) if sys.argv[4] == "asyncio" else blocking()
"""


@pytest.mark.parametrize(("kind", "tokens", "messages"), [("asyncio", 10, 0), ("sync", 100, 100)])
def test_the_end_of_a_program_waits_for_what_was_handed_over(
    daemon: Daemon, kind: str, tokens: int, messages: int
) -> None:
    name = new_id()
    words = ["-c", PROGRAM, str(daemon.database), str(daemon.socket), name, kind]
    subprocess.run([sys.executable, *words], check=True, timeout=PATIENCE)
    with SessionDB(**daemon.arguments) as db:
        found = db.get_session(name)
    assert found is not None
    assert (found["input_tokens"], found["message_count"]) == (tokens, messages)
