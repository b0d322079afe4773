"""Jobs: one per kind, alone where it must be, followed by version, ended and forgotten."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from sessiond.between import BetweenBatches
from sessiond.database import UnsafeFile
from sessiond.inbox import Inbox
from sessiond.job import Cancelled, Job, JobWork
from sessiond.jobs import MOST_KEPT, Jobs
from sessiond_protocol.errors import Code, Failure

T = TypeVar("T")

PATIENCE = 10.0


class Errands:
    """Runs them at once."""

    busy = False

    def run(self, errand: Callable[[], T], meanwhile: Callable[[], None] = lambda: None) -> T:
        return errand()


class Gate:
    """Work that waits until it is let go."""

    def __init__(self, kind: str = "backup", *, exclusive: bool = False) -> None:
        self.open = threading.Event()
        self.begun = threading.Event()
        self.work = JobWork(kind, self.run, exclusive)

    def run(self, job: Job) -> dict[str, Any]:
        self.begun.set()
        while not self.open.is_set():
            job.pause(0.001)
        return {"kind": self.work.kind}


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    made = Jobs(Errands(), first_id=100)
    yield made
    made.stop()
    assert made.join(PATIENCE)


def at_once(kind: str, run: Callable[[Job], dict[str, Any]] = lambda _job: {}) -> JobWork:
    return JobWork(kind, run)


def ended(jobs: Jobs, work: JobWork) -> Any:
    """The last state of work that ends by itself."""
    job_id = jobs.start(work)
    assert jobs.join(PATIENCE)
    return jobs.state(job_id)


def refused(jobs: Jobs, work: JobWork) -> Failure:
    with pytest.raises(Failure) as caught:
        jobs.start(work)
    return caught.value


# --- who may start -----------------------------------------------------------------------------


def test_a_job_ends_with_its_result(jobs: Jobs) -> None:
    state = ended(jobs, at_once("check", lambda _job: {"sound": True}))
    assert (state.id, state.kind, state.state, state.result) == (100, "check", "done", {"sound": 1})
    assert (state.step, state.fraction, state.error) == ("done", 1.0, None)
    assert state.ended >= state.started
    assert jobs.statistics()["jobs_finished"] == {"check": {"done": 1, "failed": 0}}


def test_one_of_a_kind_runs_at_a_time(jobs: Jobs) -> None:
    gate = Gate()
    first = jobs.start(gate.work)
    failure = refused(jobs, gate.work)
    assert failure.code is Code.CONFLICT
    assert failure.data == {"job_id": first}
    assert str(first) in failure.message
    assert jobs.start(at_once("check")) == first + 1
    gate.open.set()
    assert jobs.join(PATIENCE)
    assert jobs.start(gate.work) == first + 2


@pytest.mark.parametrize("alone_first", [True, False])
def test_one_that_has_to_run_alone_does(jobs: Jobs, alone_first: bool) -> None:
    first, second = Gate("vacuum", exclusive=alone_first), Gate("check", exclusive=not alone_first)
    job_id = jobs.start(first.work)
    failure = refused(jobs, second.work)
    assert failure.code is Code.CONFLICT
    assert failure.data == {"job_id": job_id}
    assert "alone" in failure.message
    first.open.set()
    second.open.set()
    assert jobs.join(PATIENCE)
    assert ended(jobs, second.work).state == "done"


def test_what_was_started_under_a_key_is_not_started_again(jobs: Jobs) -> None:
    gate = Gate()
    first = jobs.start(gate.work, b"key")
    assert jobs.start(gate.work, b"key") == first
    gate.open.set()
    assert jobs.join(PATIENCE)
    assert jobs.start(gate.work, b"key") == first
    assert jobs.start(gate.work, b"other") == first + 1


# --- how it is followed ------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_version_rises_with_each_change_but_not_too_often() -> None:
    told: list[int] = []
    clock = Clock()
    job = Job(7, "check", Errands(), told.append, clock=clock)
    assert job.state.version == 1
    job.say("file", 0.1)
    job.say("file", 0.2)  # too soon
    assert (job.state.version, job.state.fraction) == (2, 0.2)
    clock.now += 0.2
    job.say("file", 0.3)
    job.say("counters", 0.3)  # another step, at once
    assert job.state.version == 4
    job.done({})
    assert job.state.version == 5
    assert told == [7] * 4


def test_an_unknown_job(jobs: Jobs) -> None:
    with pytest.raises(Failure) as caught:
        jobs.state(1)
    assert caught.value.code is Code.NOT_FOUND


def test_the_last_that_ended_are_kept(jobs: Jobs) -> None:
    for number in range(MOST_KEPT + 5):
        jobs.start(at_once("check"), str(number).encode())
        assert jobs.join(PATIENCE)
    kept = [state.id for state in jobs.states()]
    assert kept[-1] == 100 + MOST_KEPT + 4
    assert len(kept) == MOST_KEPT + 1  # the oldest goes when the next one is started
    assert jobs.start(at_once("check"), b"0") == kept[-1] + 1  # its key went with it


# --- how it ends -------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[Job], dict[str, Any]]:
    def run(_job: Job) -> dict[str, Any]:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Failure(Code.DISK_FULL, "no room"), ("disk_full", "no room")),
        (ZeroDivisionError("oh"), ("internal", "ZeroDivisionError: oh")),
        (Cancelled(), ("shutting_down", "the daemon is stopping")),
    ],
)
def test_a_failure_is_told(jobs: Jobs, error: BaseException, told: tuple[str, str]) -> None:
    state = ended(jobs, at_once("backup", raising(error)))
    assert (state.state, state.error, state.result) == ("failed", told, None)
    assert jobs.last_backup is None
    assert jobs.statistics()["jobs_finished"]["backup"] == {"done": 0, "failed": 1}


def test_stopping_ends_what_runs_and_starts_no_more(jobs: Jobs) -> None:
    gate = Gate()
    job_id = jobs.start(gate.work)
    jobs.stop()
    assert jobs.join(PATIENCE)
    assert jobs.state(job_id).error == ("shutting_down", "the daemon is stopping")
    assert refused(jobs, gate.work).code is Code.SHUTTING_DOWN


def test_statistics_have_no_results(jobs: Jobs) -> None:
    ended(jobs, at_once("backup", lambda _job: {"findings": ["many"]}))
    (shown,) = jobs.statistics()["jobs"]
    assert (shown["kind"], shown["state"], shown["result"]) == ("backup", "done", None)
    assert jobs.statistics()["last_backup"] == pytest.approx(shown["ended"], abs=5)


# --- between batches ---------------------------------------------------------------------------


class Writer:
    """Runs errands on a thread of its own, as the writer does."""

    def __init__(self) -> None:
        self.inbox = Inbox(10, 1000)
        self.alarms: list[UnsafeFile] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while self.inbox.wait(None):
            for errand in self.inbox.take_errands():
                try:
                    errand()
                except UnsafeFile as unsafe:
                    self.alarms.append(unsafe)

    def end(self) -> None:
        self.inbox.close()
        self.thread.join(PATIENCE)


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    made.end()


def cancelled(
    between: BetweenBatches, errand: Callable[[], None], ends: list[str] | None = None
) -> None:
    """Wait for an errand in vain."""
    with pytest.raises(Cancelled):
        between.run(errand)
    if ends is not None:
        ends.append("cancelled")


def test_an_errand_runs_on_the_writers_thread_and_its_result_comes_back(writer: Writer) -> None:
    between = BetweenBatches(writer.inbox)
    assert between.run(threading.get_ident) == writer.thread.ident
    with pytest.raises(ZeroDivisionError):
        between.run(lambda: 1 / 0)
    assert not between.busy


def test_an_unsafe_file_reaches_the_writers_alarm(writer: Writer) -> None:
    between = BetweenBatches(writer.inbox)
    unsafe = UnsafeFile("gone")

    def errand() -> None:
        raise unsafe

    waiting = threading.Thread(target=cancelled, args=(between, errand))
    waiting.start()
    while not writer.alarms:
        between.run(lambda: None)
    assert writer.alarms == [unsafe]
    assert waiting.is_alive()  # nobody is answered
    between.close()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_nobody_waits_for_a_writer_that_has_ended(writer: Writer) -> None:
    between = BetweenBatches(writer.inbox)
    writer.end()
    ends: list[str] = []
    waiting = threading.Thread(target=cancelled, args=(between, lambda: None, ends))
    waiting.start()
    while not between._waiting:
        pass
    between.close()
    waiting.join(PATIENCE)
    with pytest.raises(Cancelled):
        between.run(lambda: None)
    assert ends == ["cancelled"]


def test_something_is_done_while_a_long_errand_runs(writer: Writer) -> None:
    done = threading.Event()
    BetweenBatches(writer.inbox).run(lambda: done.wait(PATIENCE), meanwhile=done.set)
    assert done.is_set()
