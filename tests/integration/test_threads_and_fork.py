"""What only the blocking client has: threads that share a connection, callbacks, signals; and
forks, on both clients."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from sessiond_client import (
    AsyncSessionDB,
    Closed,
    OperationalError,
    OutcomeUnknown,
    SessionDB,
    Unavailable,
    _pump,
)
from sessiond_client import _shared as sharing
from tests.support.clients import new_id
from tests.support.daemon import PATIENCE, Daemon
from tests.support.migrating import fork


@contextlib.contextmanager
def opened(daemon: Daemon, **named: Any) -> Iterator[tuple[SessionDB, str]]:
    """A client and a new session."""
    with SessionDB(**daemon.arguments, **named) as db:
        name = new_id()
        db.create_session(name, "cli")
        yield db, name


def contents(db: SessionDB, session_id: str) -> list[Any]:
    return [each["content"] for each in db.get_messages(session_id)]


def together(*functions: Callable[[], object]) -> list[BaseException | None]:
    """Run functions on a thread each; the error of each."""
    errors: list[BaseException | None] = [None] * len(functions)

    def run(place: int) -> None:
        try:
            functions[place]()
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            errors[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * PATIENCE)
        assert not thread.is_alive(), "a call hangs"
    return errors


# --- threads -------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
def test_threads_share_an_object_and_a_connection(daemon: Daemon, background: bool) -> None:
    with opened(daemon) as (db, name):
        if background:
            db.append_message_nowait(name, "user", "starts the thread").result()
        before = db.get_stats()["connections"]

        def write(thread: int) -> None:
            for number in range(40):
                db.append_message(name, f"thread {thread}", str(number))
                if number % 10 == 0:
                    assert db.message_count(name) > number

        assert together(*(lambda n=n: write(n) for n in range(12))) == [None] * 12
        stored = [each for each in db.get_messages(name) if each["role"] != "user"]
        for thread in range(12):
            mine = [each["content"] for each in stored if each["role"] == f"thread {thread}"]
            assert mine == [str(number) for number in range(40)]
        assert db.get_stats()["connections"] == before


def test_objects_share_a_connection_until_the_last_is_closed(daemon: Daemon) -> None:
    with SessionDB(**daemon.arguments, reads="daemon") as watcher:
        assert len(sharing._open) == 1
        for _ in range(3):
            with SessionDB(**daemon.arguments) as db:
                assert db._connection is watcher._connection
        watcher.session_count()
    assert sharing._open == {}


def test_an_object_per_request_made_and_closed_by_many_threads(daemon: Daemon) -> None:
    with opened(daemon) as (_, name):
        pass

    def serve() -> None:
        for number in range(15):
            with SessionDB(**daemon.arguments) as db:
                db.append_message(name, "user", str(number))

    assert together(*[serve] * 8) == [None] * 8
    with SessionDB(**daemon.arguments) as db:
        assert db.message_count(name) == 120


def test_a_thread_may_give_up_sooner_than_the_one_that_reads(own_daemon: Daemon) -> None:
    with (
        opened(own_daemon) as (patient, name),
        SessionDB(**own_daemon.arguments, timeout=0.2) as hasty,
    ):
        patient.ensure_session(name)
        own_daemon.signal(signal.SIGSTOP)
        leads = threading.Thread(target=patient.append_message, args=(name, "user", "patient"))
        leads.start()
        with pytest.raises(OutcomeUnknown) as caught:
            hasty.append_message(name, "user", "hasty")
        own_daemon.signal(signal.SIGCONT)
        leads.join(PATIENCE)
        assert patient.request_status(**caught.value.data) in {"applied", "failed"}
        assert "patient" in contents(patient, name)


def test_the_background_thread_takes_over_from_a_call_that_waits(own_daemon: Daemon) -> None:
    with opened(own_daemon) as (db, name):
        own_daemon.signal(signal.SIGSTOP)
        waiting = threading.Thread(target=db.append_message, args=(name, "user", "first"))
        waiting.start()
        leading(db)
        future = db.append_message_nowait(name, "user", "second")
        leading(db, "sessiond")
        own_daemon.signal(signal.SIGCONT)
        assert future.result(PATIENCE) > 0
        waiting.join(PATIENCE)
        assert contents(db, name) == ["first", "second"]


def leading(db: SessionDB, name: str | None = None) -> None:
    """Wait until a thread (of this name) reads for everybody."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline
        leader = db._connection.pump._leader
        threads = {each.ident: each.name for each in threading.enumerate()}
        if leader in threads and name in (None, threads[leader]):
            return


def test_a_callback_may_make_calls_itself(daemon: Daemon) -> None:
    with opened(daemon, timeout=PATIENCE / 2) as (db, name):
        done: Future[list[Any]] = Future()

        def answer(first: Future[int]) -> None:
            try:
                db.append_message(name, "assistant", f"after {first.result()}")
                db.update_token_counts(name, 1, wait=False)
                second = db.append_message_nowait(name, "user", "last")
                done.set_result([second.result(PATIENCE), db.message_count(name)])
            except BaseException as error:  # noqa: BLE001 (handed to the test)
                done.set_exception(error)

        db.append_message_nowait(name, "user", "first").add_done_callback(answer)
        second, count = done.result(PATIENCE)
        assert count == 3
        assert second == db.get_messages(name)[-1]["id"]


def test_a_sender_faster_than_the_disk_is_slowed_down(
    own_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pump, "MAX_QUEUED", 10)
    with opened(own_daemon) as (db, name):
        own_daemon.stop()
        with (
            contextlib.suppress(OperationalError),
            SessionDB(**own_daemon.arguments, timeout=0.1) as impatient,
        ):
            impatient.ensure_session(name)
        sent: list[Future[int]] = []

        def send() -> None:
            for number in range(100):
                sent.append(db.append_message_nowait(name, "user", str(number)))  # noqa: PERF401

        sending = threading.Thread(target=send)
        sending.start()
        deadline = time.monotonic() + PATIENCE
        while len(db._connection.pump.link.queued) < 10:
            assert time.monotonic() < deadline
        sending.join(0.1)
        assert sending.is_alive()
        assert len(sent) == 10
        own_daemon.start()
        sending.join(PATIENCE)
        assert contents(db, name) == [str(n) for n in range(100)]
        assert [each.done() for each in sent] == [True] * 100


def test_closing_ends_what_other_threads_wait_for(own_daemon: Daemon) -> None:
    with opened(own_daemon, reads="daemon", timeout=1.0) as (db, name):
        own_daemon.signal(signal.SIGSTOP)
        released = sharing.take_part(db._place)
        started = threading.Barrier(3)

        def wait(call: Callable[[], object]) -> None:
            started.wait()
            call()

        def close() -> None:
            started.wait()
            leading(db)
            released.close()

        errors = together(
            lambda: wait(lambda: db.append_message(name, "user", "x")),
            lambda: wait(lambda: db.get_session(name)),
            close,
        )
        assert isinstance(errors[0], OutcomeUnknown | Closed)
        assert isinstance(errors[1], Closed)
        assert errors[2] is None
        own_daemon.signal(signal.SIGCONT)
        with pytest.raises(Closed):
            db.session_count()
        with contextlib.suppress(Closed):
            db.close()
        sharing.release(released)


# --- signals, lost connections ---------------------------------------------------------------


def test_an_interrupted_call_leaves_nothing_that_would_still_be_sent(own_daemon: Daemon) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with opened(own_daemon) as (db, name):
        own_daemon.stop()
        older = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                db.append_message(name, "user", "interrupted")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, older)
        own_daemon.start()
        db.append_message(name, "user", "later")
        assert contents(db, name) == ["later"]


def test_a_killed_daemon_loses_and_doubles_nothing(own_daemon: Daemon) -> None:
    with opened(own_daemon) as (db, name):
        for _ in range(3):
            futures = [db.append_message_nowait(name, "user", str(n)) for n in range(500)]
            futures[20].result(PATIENCE)
            own_daemon.kill()
            own_daemon.start()
            for future in futures:
                future.result(PATIENCE)
        assert contents(db, name) == [str(n) for n in range(500)] * 3


def test_threads_survive_a_killed_daemon(own_daemon: Daemon) -> None:
    with opened(own_daemon) as (db, name):
        half = threading.Barrier(5)

        def write(thread: int) -> None:
            for number in range(60):
                if number == 30:
                    half.wait(PATIENCE)
                db.append_message(name, f"thread {thread}", str(number))

        def kill() -> None:
            half.wait(PATIENCE)
            own_daemon.kill()
            own_daemon.start()

        errors = together(kill, *(lambda n=n: write(n) for n in range(4)))
        assert errors == [None] * 5
        stored = db.get_messages(name)
        for thread in range(4):
            mine = [each["content"] for each in stored if each["role"] == f"thread {thread}"]
            assert mine == [str(number) for number in range(60)]


def test_no_daemon_fails_every_thread_in_time(own_daemon: Daemon) -> None:
    with opened(own_daemon) as (_, name):
        own_daemon.stop()
        db = SessionDB(**own_daemon.arguments, timeout=0.2)
        errors = together(*[lambda: db.append_message(name, "user", "x")] * 8)
        assert {type(each) for each in errors} == {Unavailable}
        db.close()
        own_daemon.start()


# --- forks ---------------------------------------------------------------------------------


def in_child(function: Callable[[], object]) -> None:
    """Run a function in a forked child; its errors fail the test."""
    child = fork()
    if child == 0:
        try:
            function()
        except BaseException:  # noqa: BLE001 (the child must not return into the test)
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "see the child's traceback"


@pytest.mark.parametrize("reads", ["direct", "daemon"])
def test_a_child_uses_an_inherited_object_on_a_connection_of_its_own(
    daemon: Daemon, reads: Any
) -> None:
    with opened(daemon, reads=reads) as (db, name):
        db.append_message(name, "user", "before")
        client_id = db._connection.pump.link.client_id

        def child() -> None:
            assert db.append_message(name, "user", "child")
            assert contents(db, name) == ["before", "child"]
            assert db._connection.pump.link.client_id != client_id
            db.close()

        in_child(child)
        db.append_message(name, "user", "after")
        assert contents(db, name) == ["before", "child", "after"]
        assert db._connection.pump.link.client_id == client_id


def test_the_parent_sends_what_is_on_its_way_and_the_child_does_not(daemon: Daemon) -> None:
    with opened(daemon) as (db, name):
        futures = [db.append_message_nowait(name, "user", str(n)) for n in range(200)]
        for _ in range(5):
            db.update_token_counts(name, 1, wait=False)

        def child() -> None:
            db.flush()
            db.append_message(name, "child", "x")
            db.update_token_counts(name, 100, wait=False)
            db.close()

        in_child(child)
        db.flush()
        assert all(future.done() for future in futures)
        mine = [each["content"] for each in db.get_messages(name) if each["role"] == "user"]
        assert mine == [str(n) for n in range(200)]
        found = db.get_session(name)
        assert found is not None
        assert (found["input_tokens"], found["message_count"]) == (105, 201)


def test_a_fork_while_another_thread_is_in_a_call(own_daemon: Daemon) -> None:
    with opened(own_daemon) as (db, name):
        own_daemon.signal(signal.SIGSTOP)
        waiting = threading.Thread(target=db.append_message, args=(name, "user", "parent"))
        waiting.start()
        leading(db)
        child = fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                db.append_message(name, "user", "child")
                os._exit(0)
            os._exit(1)
        own_daemon.signal(signal.SIGCONT)
        _, status = os.waitpid(child, 0)
        assert status == 0
        waiting.join(PATIENCE)
        assert sorted(contents(db, name)) == ["child", "parent"]


def test_a_fork_under_an_asyncio_program(daemon: Daemon) -> None:
    name = new_id()

    async def stored(db: AsyncSessionDB) -> list[Any]:
        return [each["content"] for each in await db.get_messages(name)]

    async def child(db: AsyncSessionDB) -> None:
        await db.append_message(name, "user", "child")
        assert await stored(db) == ["before", "child"]
        await db.close()

    async def main() -> None:
        async with AsyncSessionDB(**daemon.arguments, reads="direct") as db:
            await db.create_session(name, "cli")
            await db.append_message(name, "user", "before")
            await db.get_session(name)
            await db.update_token_counts(name, 1, wait=False)
            in_child(lambda: asyncio.run(child(db)))
            await db.append_message(name, "user", "after")
            assert await stored(db) == ["before", "child", "after"]
            found = await db.get_session(name)
            assert found is not None
            assert found["input_tokens"] == 1

    asyncio.run(main())
