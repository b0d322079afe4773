"""The writer's thread: what makes a batch, and that every request is answered whatever happens."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from sessiond.batching import BatchLimits, BatchRule
from sessiond.database import Applied, Greeting, UnsafeFile
from sessiond.inbox import Inbox
from sessiond.stats import WriterStats
from sessiond.work import Entry, Fate, Outcome, Work, one_by_one, refusal
from sessiond.writer import Delivery, Writer
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.server import RequestStatus, ServerHello, ServerPing
from tests.unit.daemon.stores import Opened, appending, opened

PATIENCE = 10.0
NIL = msgspec.Raw(msgpack.packb(None))


class Peer:
    """A connection, by name."""

    closed = False
    client_id: bytes | None = None

    def __init__(self, name: str = "peer") -> None:
        self.name = name


PEER = Peer()


class Gate:
    """Holds the writer at a point until it is let go."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE)

    def wait_until_reached(self) -> None:
        assert self._reached.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


class Database:
    """Remembers batches; ``hook`` runs inside each and may hold it up or fail."""

    def __init__(self, hook: Callable[[], None] = lambda: None) -> None:
        self.batches: list[list[int]] = []
        self.hook = hook
        self.cares: list[bool] = []
        self.care_result: Callable[[], bool] = lambda: False
        self.outcome = Outcome(Fate.APPLIED, NIL)

    @property
    def foreign_commits(self) -> int:
        return 0

    def look(self) -> None:
        pass

    def apply(self, works: Sequence[Entry]) -> Applied:
        self.batches.append([work.msgid for work in one_by_one(works)])
        self.hook()
        return Applied(works, [self.outcome] * len(works), [], 7, 1, 0.1, 0.2, 0.3)

    def greet(self, hello: ServerHello) -> Greeting:
        if hello.client == "one too many":
            raise Failure(Code.OVERLOADED, "no room")
        if hello.client == "unlucky":
            raise OSError("broken")
        return Greeting(True, 41, b"generation")

    def status(self, client_id: bytes, seq: int) -> str:
        return f"{client_id.decode()} {seq}"

    def care(self, idle: bool) -> bool:
        self.cares.append(idle)
        return self.care_result()

    def health(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


class Bench:
    """A writer, what it is given and what comes out of it."""

    def __init__(self, database: Any = None, max_requests: int = 100, delay: float = 0.0) -> None:
        self.database: Any = Database() if database is None else database
        self.inbox = Inbox(10_000, 10_000_000)
        self.stats = WriterStats()
        self.deliveries: list[list[Delivery]] = []
        self.alarms: list[UnsafeFile] = []
        self.committed: list[Applied] = []
        self.on_committed: Callable[[], None] = lambda: None
        self.answered = threading.Semaphore(0)
        self.writer = Writer(
            self.inbox,
            self.database,
            BatchRule(BatchLimits(max_requests, 1_000_000, delay, 2)),
            self.stats,
            deliver=self._deliver,
            welcome=lambda work, greeting: [work.msgid, greeting.last],
            committed=self._committed,
            alarm=self.alarms.append,
        )

    def _deliver(self, deliveries: list[Delivery]) -> None:
        self.deliveries.append(deliveries)
        for _, _, works in deliveries:
            for _ in works:
                self.answered.release()

    def _committed(self, applied: Applied) -> None:
        self.committed.append(applied)
        self.on_committed()

    def put(self, *msgids: int, peer: Peer = PEER, request: Request[Any] | None = None) -> None:
        made = request or appending("s", "text")
        self.inbox.put([Work(peer, msgid, made, 0.0, float("inf"), 10) for msgid in msgids])

    def wait_for(self, answers: int) -> None:
        for _ in range(answers):
            assert self.answered.acquire(timeout=PATIENCE)

    def stop(self) -> None:
        self.inbox.close()
        assert self.writer.join(PATIENCE)

    def answers(self) -> dict[int, Any]:
        """``{msgid: [error, result]}`` of everything delivered."""
        unpacker = msgpack.Unpacker()
        for deliveries in self.deliveries:
            for _, data, _ in deliveries:
                unpacker.feed(data)
        return {msgid: rest for _, msgid, *rest in unpacker}


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- batches -----------------------------------------------------------------------------------


def test_a_batch_forms_while_the_one_before_is_being_committed() -> None:
    gate = Gate()
    bench = Bench(Database(gate))
    bench.writer.start()
    bench.put(0)
    gate.wait_until_reached()
    bench.put(*range(1, 26))
    gate.open()
    bench.wait_for(26)
    bench.stop()
    assert bench.database.batches == [[0], list(range(1, 26))]


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Opened, Gate]]:
    """A real store whose first commit is held."""
    gate = Gate()
    held: list[bool] = []

    def hold(point: str) -> None:
        if point == "before commit" and held:
            held.pop()
            gate()

    with opened(tmp_path / "state.db", crash_point=hold) as file:
        file.append("s")
        held.append(True)
        yield file, gate


def test_the_same_on_a_real_file(held: tuple[Opened, Gate]) -> None:
    file, gate = held
    bench = Bench(file.store)
    before = file.store.commits
    bench.writer.start()
    bench.put(0)
    gate.wait_until_reached()
    bench.put(*range(1, 26))
    gate.open()
    bench.wait_for(26)
    bench.stop()
    assert [applied.last_message_id for applied in bench.committed] == [1, 26]
    assert file.store.commits == before + 2
    assert bench.answers() == {msgid: [None, msgid + 1] for msgid in range(26)}


def test_nothing_waits_longer_than_for_a_full_batch() -> None:
    bench = Bench(max_requests=10)
    bench.put(*range(25))
    for _ in range(3):
        bench.writer.turn(0.0)
    assert [len(batch) for batch in bench.database.batches] == [10, 10, 5]


def test_those_who_wrote_lately_are_waited_for() -> None:
    bench, others = Bench(delay=PATIENCE), [Peer(name) for name in "abc"]
    for turn in range(12):
        for place, peer in enumerate(others):
            bench.put(10 * turn + place, peer=peer)
        bench.writer.turn(0.0)
    bench.database.batches.clear()
    bench.put(900, peer=others[0])
    thread = threading.Thread(target=bench.writer.turn, args=(0.0,))
    thread.start()
    bench.put(901, peer=others[1])
    bench.put(902, peer=others[2])
    thread.join(PATIENCE)
    assert bench.database.batches == [[900, 901, 902]]


# --- answers -----------------------------------------------------------------------------------


def test_answers_are_delivered_once_per_batch_joined_per_connection(bench: Bench) -> None:
    one, two = Peer("one"), Peer("two")
    bench.put(1, 2, peer=one)
    bench.put(3, peer=two)
    bench.writer.turn(0.0)
    assert len(bench.deliveries) == 1
    by_peer = {peer: (data, works) for peer, data, works in bench.deliveries[0]}
    assert set(by_peer) == {one, two}
    assert [work.msgid for work in one_by_one(by_peer[one][1])] == [1, 2]
    unpacker = msgpack.Unpacker()
    unpacker.feed(by_peer[one][0])
    assert list(unpacker) == [[1, 1, None, None], [1, 2, None, None]]


def test_failures_are_answered_and_what_was_dropped_only_accounted(bench: Bench) -> None:
    bench.database.outcome = refusal(Code.DISK_FULL, "no room")
    bench.put(1)
    bench.writer.turn(0.0)
    bench.database.outcome = Outcome(Fate.DROPPED)
    bench.put(2)
    bench.writer.turn(0.0)
    assert bench.answers() == {1: [["disk_full", "no room", {"applied": False}], None]}
    [(_, data, works)] = bench.deliveries[1]
    assert (data, [work.msgid for work in one_by_one(works)]) == (b"", [2])


def test_watchers_hear_of_a_batch_before_its_answers_go_out(bench: Bench) -> None:
    delivered: list[int] = []
    bench.on_committed = lambda: delivered.append(len(bench.deliveries))
    bench.put(1)
    bench.writer.turn(0.0)
    assert delivered == [0]
    assert bench.committed[0].last_message_id == 7


def test_hello_status_and_ping_are_answered_after_the_batch(bench: Bench) -> None:
    order: list[str] = []
    bench.database.hook = lambda: order.append("batch")
    bench.put(1, request=ServerHello(protocol=1))
    bench.put(2, request=RequestStatus(client_id=b"me", seq=5))
    bench.put(3, request=ServerPing())
    bench.put(4)
    bench.writer.turn(0.0)
    assert order == ["batch"]
    assert bench.database.batches == [[4]]
    assert bench.answers() == {
        1: [None, [1, 41]],
        2: [None, "me 5"],
        3: [None, None],
        4: [None, None],
    }
    assert len(bench.deliveries) == 1


def test_without_a_write_there_is_no_batch(bench: Bench) -> None:
    bench.put(1, request=ServerPing())
    bench.writer.turn(0.0)
    assert bench.database.batches == []
    assert bench.stats.batches == 0
    assert bench.answers() == {1: [None, None]}


# --- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "error"),
    [
        ("one too many", ["overloaded", "no room", None]),
        ("unlucky", ["internal", "OSError: broken", None]),
    ],
)
def test_a_hello_that_fails_takes_nobody_with_it(
    bench: Bench, client: str, error: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    bench.put(1, request=ServerHello(protocol=1, client=client))
    bench.put(2)
    bench.writer.turn(0.0)
    assert bench.answers() == {1: [error, None], 2: [None, None]}
    assert bool(caplog.records) is (client == "unlucky")


def test_watchers_that_fail_do_not_keep_the_answers(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("a watcher")

    bench.on_committed = fail
    bench.put(1)
    bench.writer.turn(0.0)
    assert bench.answers() == {1: [None, None]}
    assert "could not be passed on" in caplog.text


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("oh"), MemoryError(), SystemExit(3), UnsafeFile("the log is gone")]
)
def test_an_exception_out_of_a_batch_is_an_alarm_and_answers_nobody(error: BaseException) -> None:
    def fail() -> None:
        raise error

    bench = Bench(Database(fail))
    logging.disable(logging.CRITICAL)
    try:
        bench.writer.start()
        bench.put(1)
        assert bench.writer.join(PATIENCE)
    finally:
        logging.disable(logging.NOTSET)
    assert bench.deliveries == []
    [alarm] = bench.alarms
    assert alarm is error or "the fate of a batch is unknown" in str(alarm)


@pytest.mark.parametrize("error", [ValueError("care"), SystemExit(1), MemoryError()])
def test_nothing_else_ends_the_thread(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Bench()

    def fail() -> bool:
        if len(failing.database.cares) <= 3:
            raise error
        return False

    failing.database.care_result = fail
    failing.writer.start()
    for msgid in range(5):
        failing.put(msgid)
        failing.wait_for(1)
    failing.stop()
    assert sorted(failing.answers()) == [0, 1, 2, 3, 4]
    assert failing.alarms == []
    assert "goes on" in caplog.text


def test_an_alarm_while_caring_is_an_alarm(bench: Bench) -> None:
    def fail() -> bool:
        raise UnsafeFile("replaced")

    bench.database.care_result = fail
    bench.writer.start()
    assert bench.writer.join(PATIENCE)
    assert [str(alarm) for alarm in bench.alarms] == ["replaced"]


def test_an_errand_that_fails_leaves_the_others(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def fail() -> None:
        raise ValueError("errand")

    bench.inbox.put_errand(fail)
    bench.inbox.put_errand(lambda: done.append("second"))
    bench.put(1)
    bench.writer.turn(0.0)
    assert done == ["second"]
    assert bench.answers() == {1: [None, None]}
    assert "an errand failed" in caplog.text


# --- housekeeping and the end ------------------------------------------------------------------


def test_care_is_told_whether_anybody_writes(bench: Bench) -> None:
    bench.put(1)
    bench.writer.turn(0.0)
    bench.writer.turn(0.0)
    assert bench.database.cares == [False, True]


def test_more_care_does_not_wait(bench: Bench) -> None:
    bench.database.care_result = lambda: True
    bench.writer.turn(0.0)
    bench.database.care_result = lambda: False
    bench.writer.turn(None)  # would wait for ever if it waited
    assert bench.database.cares == [True, True]


def test_care_that_fails_is_not_repeated_at_once(bench: Bench) -> None:
    def fail() -> bool:
        raise ValueError("care")

    bench.database.care_result = lambda: True
    bench.writer.turn(0.0)
    bench.database.care_result = fail
    with pytest.raises(ValueError, match="care"):
        bench.writer.turn(0.0)
    waited: list[float | None] = []
    wait = bench.inbox.wait
    bench.inbox.wait = lambda timeout: waited.append(timeout) or wait(0.0)  # type: ignore[method-assign,func-returns-value]
    bench.database.care_result = lambda: False
    bench.writer.turn(1.0)
    assert waited == [1.0]


def test_closing_lets_everything_that_was_accepted_be_answered() -> None:
    gate = Gate()
    bench = Bench(Database(gate), max_requests=2)
    bench.writer.start()
    bench.put(0)
    gate.wait_until_reached()
    bench.put(1, 2, 3, 4, 5)
    bench.inbox.close()
    gate.open()
    assert bench.writer.join(PATIENCE)
    assert sorted(bench.answers()) == [0, 1, 2, 3, 4, 5]
    assert bench.database.batches == [[0], [1, 2], [3, 4], [5]]


def test_joining_a_writer_at_work_tells_so() -> None:
    gate = Gate()
    bench = Bench(Database(gate))
    bench.writer.start()
    bench.put(1)
    gate.wait_until_reached()
    assert not bench.writer.join(0.0)
    gate.open()
    bench.stop()
