"""The heartbeat: what is told to the manager, and when it falls silent."""

import asyncio
from collections.abc import Callable

import pytest

from sessiond.heartbeat import EXTENSION_SECONDS, MOST_SECONDS, Heartbeat
from sessiond.notify import Notifier


class Told(Notifier):
    """A manager that remembers what it heard."""

    def __init__(self) -> None:
        super().__init__(None)
        self.heard: list[dict[str, str | int]] = []

    def send(self, **fields: str | int) -> None:
        self.heard.append(fields)

    def take(self) -> list[dict[str, str | int]]:
        heard, self.heard = self.heard, []
        return heard


class Writer:
    """An inbox for errands, and the writer that comes by when the test says so."""

    def __init__(self) -> None:
        self.errands: list[Callable[[], None]] = []

    def come_by(self) -> None:
        errands, self.errands = self.errands, []
        for errand in errands:
            errand()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


WATCHDOG = [{"watchdog": 1}]
EXTEND = [{"extend_timeout_usec": int(EXTENSION_SECONDS * 1e6)}]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heartbeat(told: Told, writer: Writer, clock: Clock) -> Heartbeat:
    """One of a daemon that serves."""
    made = Heartbeat(told, 30.0, writer.errands.append, clock)
    made.ready("serving")
    told.take()
    return made


def test_it_is_told_after_the_writer_came_by(
    heartbeat: Heartbeat, told: Told, writer: Writer
) -> None:
    heartbeat.look()
    assert told.take() == []
    writer.come_by()
    heartbeat.look()
    assert told.take() == WATCHDOG


def test_a_writer_that_hangs_is_not_vouched_for(
    heartbeat: Heartbeat, told: Told, writer: Writer
) -> None:
    for _ in range(3):
        heartbeat.look()
    assert told.take() == []
    assert len(writer.errands) == 1  # no heap of errands behind a writer that hangs
    writer.come_by()
    heartbeat.look()
    assert told.take() == WATCHDOG
    heartbeat.look()
    assert told.take() == []


def test_progress_of_a_long_work_counts(heartbeat: Heartbeat, told: Told, writer: Writer) -> None:
    heartbeat.look()
    heartbeat.beat()
    heartbeat.look()
    assert told.take() == WATCHDOG
    heartbeat.look()
    assert told.take() == []


def test_without_a_watchdog_nothing_is_told_but_known(
    told: Told, writer: Writer, clock: Clock
) -> None:
    heartbeat = Heartbeat(told, None, writer.errands.append, clock)
    heartbeat.ready("serving")
    told.take()
    clock.now += 7
    assert heartbeat.silence == 7
    heartbeat.look()
    writer.come_by()
    heartbeat.look()
    assert told.take() == []
    assert heartbeat.silence == 0


def test_a_start_that_gets_on_asks_for_more_time(told: Told, writer: Writer, clock: Clock) -> None:
    heartbeat = Heartbeat(told, 30.0, writer.errands.append, clock)
    heartbeat.look()
    assert told.take() == []
    heartbeat.beat()
    heartbeat.look()
    heartbeat.look()
    assert told.take() == EXTEND
    assert writer.errands == []  # there is no writer yet


def test_a_drain_that_gets_on_asks_for_more_time(
    heartbeat: Heartbeat, told: Told, writer: Writer
) -> None:
    heartbeat.stopping("draining")
    assert told.take() == [{"stopping": 1, "status": "draining"}]
    heartbeat.look()
    assert told.take() == []
    heartbeat.beat()
    heartbeat.look()
    assert told.take() == EXTEND
    assert writer.errands == []


def test_a_status_is_said_once(heartbeat: Heartbeat, told: Told) -> None:
    for text in ("serving", "serving: 1 client", "serving: 1 client", "serving"):
        heartbeat.say(text)
    assert told.take() == [{"status": "serving: 1 client"}, {"status": "serving"}]


def test_a_reload_begins_and_ends(heartbeat: Heartbeat, told: Told) -> None:
    heartbeat.reloading()
    heartbeat.ready("serving")
    begun, ended = told.take()
    assert begun["reloading"] == 1
    assert int(begun["monotonic_usec"]) > 0
    assert ended == {"ready": 1, "status": "serving"}


@pytest.mark.parametrize(
    ("wanted", "interval"), [(None, MOST_SECONDS), (30.0, MOST_SECONDS), (1.0, 0.5)]
)
def test_it_looks_twice_as_often_as_is_wanted(
    wanted: float | None, interval: float, told: Told
) -> None:
    assert Heartbeat(told, wanted, lambda _: None).interval == interval


def run(heartbeat: Heartbeat, left: Callable[[], int]) -> None:
    """Have it look four times; ``left`` is what is unanswered."""

    async def looking() -> None:
        enough = asyncio.Event()
        looks = 0

        def counted() -> int:
            nonlocal looks
            looks += 1
            if looks == 4:
                enough.set()
            return left()

        running = asyncio.create_task(heartbeat.run(counted, lambda: "a line"))
        await asyncio.wait_for(enough.wait(), 10)
        running.cancel()

    asyncio.run(looking())


def test_each_answer_of_a_drain_is_progress(told: Told) -> None:
    heartbeat = Heartbeat(told, 0.001, lambda _: None)
    heartbeat.stopping("draining")
    fewer = iter(range(10, 0, -1))
    run(heartbeat, lambda: next(fewer))
    assert told.heard[1:3] == [*EXTEND, {"status": "a line"}]
    assert told.heard[3:5] == EXTEND * 2


def test_a_drain_that_stands_still_asks_for_nothing(told: Told) -> None:
    heartbeat = Heartbeat(told, 0.001, lambda _: None)
    heartbeat.stopping("draining")
    run(heartbeat, lambda: 0)
    assert told.heard[1:] == [{"status": "a line"}]
