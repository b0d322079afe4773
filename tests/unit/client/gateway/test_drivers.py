"""How both stores carry out plans: steps, failures, time, cancellation, threads."""

import asyncio
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import Closed, SessionDB, Timeout, Unavailable
from sessiond_client._async import AsyncSessionDB
from sessiond_client.gateway import (
    AsyncSessionStore,
    GatewayConfig,
    Platform,
    SessionResetPolicy,
    SessionSource,
    SessionStore,
)
from sessiond_client.gateway import _base as base
from sessiond_client.gateway.steps import Callback, Contended, FileWork
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.route import RouteGet
from tests.unit.client.gateway.table import Table

CHAT = SessionSource(Platform.TELEGRAM, "7")


class FakeDB(SessionDB):
    """A blocking client of a table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.closings = 0
        self._timeout = 1.0

    def _run(self, plan: Generator[Request[Any], Any, Any]) -> Any:
        return _answered(plan, self.table)

    def close(self) -> None:
        self.closings += 1


class FakeAsyncDB(AsyncSessionDB):
    """An asyncio client of a table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.closings = 0
        self._timeout = 1.0

    async def _run(self, plan: Generator[Request[Any], Any, Any]) -> Any:
        await asyncio.sleep(0)
        return _answered(plan, self.table)

    async def close(self) -> None:
        self.closings += 1


def _answered(plan: Generator[Request[Any], Any, Any], table: Table) -> Any:
    answer = table.answer(next(plan))
    with pytest.raises(StopIteration):
        plan.send(answer)
    return answer


class Driver:
    """One face for the two stores' ways to carry out a plan."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.table = Table()
        self._runner = asyncio.Runner() if kind == "asyncio" else None
        self.store: Any
        if self._runner is None:
            self.store = SessionStore(folder, GatewayConfig(), db=FakeDB(self.table))
        else:
            self.store = AsyncSessionStore(folder, GatewayConfig(), db=FakeAsyncDB(self.table))

    def wait(self, result: Any) -> Any:
        return result if self._runner is None else self._runner.run(result)

    def run(self, plan: Any) -> Any:
        return self.wait(self.store._run(plan))

    def close(self) -> None:
        self.wait(self.store.close())
        if self._runner is not None:
            self._runner.close()


@pytest.fixture(params=["blocking", "asyncio"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = Driver(request.param, tmp_path)
    yield made
    made.close()


def asking(*steps: Any) -> Generator[Any, Any, list[Any]]:
    """A plan whose result is what its steps gave, or the errors they raised."""
    found: list[Any] = []
    for step in steps:
        try:
            found.append((yield step))
        except Exception as error:  # noqa: BLE001 (it is what the test looks at)
            found.append(error)
    return found


def failing() -> None:
    raise OSError("no such file")


def test_every_kind_of_step_gives_its_result(driver: Driver) -> None:
    steps = (
        RouteGet(session_key="k"),
        FileWork(lambda: 5),
        Callback(lambda a, b: a + b, (1, 2)),
        Contended("key 'k'"),
    )
    assert driver.run(asking(*steps)) == [None, 5, 3, None]


def test_failures_are_the_plans_to_judge(driver: Driver) -> None:
    first, second = driver.run(asking(FileWork(failing), Callback(failing, ())))
    assert isinstance(first, OSError)
    assert isinstance(second, OSError)


def test_a_failure_that_a_plan_lets_through_is_raised(driver: Driver) -> None:
    def careless() -> Generator[Any, Any, None]:
        yield FileWork(failing)

    with pytest.raises(OSError, match="no such file"):
        driver.run(careless())


def test_deciding_again_ends_with_the_calls_time(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(base, "deadline_clock", lambda: now[0])

    def busy(seconds: float) -> None:
        now[0] += seconds

    first, second, third = driver.run(
        asking(Callback(busy, (100.0,)), Contended("key 'k'"), Contended("key 'k'"))
    )
    assert (first, second, third) == (None, None, None), "a callback's time does not count"

    def others_are_quicker() -> Generator[Any, Any, None]:
        while True:
            now[0] += 0.6
            yield Contended("session key 'k'")

    with pytest.raises(Timeout, match="session key 'k' was changed by others all the time"):
        driver.run(others_are_quicker())


def test_a_store_that_was_given_a_client_leaves_it_open(driver: Driver) -> None:
    driver.wait(driver.store.close())
    assert driver.store._db.closings == 0
    with pytest.raises(Closed):
        driver.run(asking())


def test_a_first_use_that_fails_is_repeated(driver: Driver, tmp_path: Path) -> None:
    (tmp_path / "sessions.json").mkdir()
    with pytest.raises(IsADirectoryError):
        driver.run(asking())
    (tmp_path / "sessions.json").rmdir()
    assert driver.run(asking()) == []


def test_closing_tells_what_could_not_be_sent(driver: Driver) -> None:
    driver.table.make("s")
    driver.table.outage = Unavailable("no daemon answers")
    driver.wait(driver.store.append_to_transcript("s", {"role": "user", "content": "a"}))
    with pytest.raises(Unavailable):
        driver.wait(driver.store.close())
    with pytest.raises(Closed):
        driver.run(asking())


@pytest.mark.parametrize("transcripts", ["files", "", None])
def test_a_choice_that_there_is_not_is_named(transcripts: Any, tmp_path: Path) -> None:
    db = FakeDB(Table())
    with pytest.raises(ValueError, match="transcripts must be 'both' or 'db'"):
        SessionStore(tmp_path, GatewayConfig(), db=db, transcripts=transcripts)


def test_a_store_makes_a_client_of_its_own_and_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = FakeDB(Table())
    monkeypatch.setattr(SessionStore, "_new_db", lambda self: db)
    with SessionStore(tmp_path, GatewayConfig()) as store:
        assert store.list_sessions() == []
    assert db.closings == 1


def test_another_configuration_holds_from_the_next_call_on(driver: Driver) -> None:
    entry = driver.wait(driver.store.get_or_create_session(CHAT))
    assert driver.wait(driver.store.is_session_expired(entry)) is None
    policy = SessionResetPolicy("idle", idle_minutes=0)
    driver.store.config = GatewayConfig(default_reset_policy=policy)
    assert driver.wait(driver.store.is_session_expired(entry)) == "idle"


# --- threads -----------------------------------------------------------------------------------


def test_threads_that_share_a_store_share_a_session(tmp_path: Path) -> None:
    table, lock = Table(), threading.Lock()

    class Locked(Table):
        def answer(self, step: Any) -> Any:
            with lock:
                return table.answer(step)

    found: list[str] = []
    with SessionStore(tmp_path, GatewayConfig(), db=FakeDB(Locked())) as store:

        def ask() -> None:
            found.extend(store.get_or_create_session(CHAT).session_id for _ in range(20))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 160
    assert len(set(found)) == 1


# --- cancellation ------------------------------------------------------------------------------


def on_loop(test: Callable[[AsyncSessionStore], Any], folder: Path, table: Table) -> None:
    async def run() -> None:
        async with AsyncSessionStore(folder, GatewayConfig(), db=FakeAsyncDB(table)) as store:
            await test(store)

    asyncio.run(run())


def test_file_work_is_done_before_its_caller_learns_that_it_was_cancelled(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    undone: list[int] = []

    def work() -> int:
        begun.set()
        go_on.wait(10)
        return 5

    async def test(store: AsyncSessionStore) -> None:
        await store.list_sessions()
        call = asyncio.create_task(store._run(asking(FileWork(work, undone.append))))
        await asyncio.to_thread(begun.wait, 10)
        call.cancel()
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.sleep(0)
        assert not call.done()
        go_on.set()
        await asyncio.wait([call])
        assert call.cancelled()
        assert undone == [5]

    on_loop(test, tmp_path, Table())


def test_calls_that_are_cancelled_anywhere_leave_one_session_per_key(tmp_path: Path) -> None:
    table = Table()

    async def test(store: AsyncSessionStore) -> None:
        for ticks in range(12):
            call = asyncio.create_task(store.get_or_create_session(CHAT, force_new=True))
            for _ in range(ticks):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        await store.get_or_create_session(CHAT)

    on_loop(test, tmp_path, table)
    (route,) = table.routes.values()
    going_on = [name for name, row in table.sessions.items() if row["end_reason"] is None]
    assert going_on == [route.session_id]


def test_a_thousand_calls_at_once_begin_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beginnings: list[int] = []
    begin = AsyncSessionStore._beginning

    def counted(store: AsyncSessionStore) -> Any:
        beginnings.append(1)
        return begin(store)

    monkeypatch.setattr(AsyncSessionStore, "_beginning", counted)

    async def test(store: AsyncSessionStore) -> None:
        entries = await asyncio.gather(*(store.get_or_create_session(CHAT) for _ in range(1000)))
        assert len({entry.session_id for entry in entries}) == 1

    on_loop(test, tmp_path, Table())
    assert len(beginnings) == 1
