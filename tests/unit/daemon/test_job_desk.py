"""The event loop's side of jobs: who may start one, and answers that follow later."""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec
import pytest

from sessiond.job import Job, JobWork
from sessiond.job_desk import JobDesk
from sessiond.work import PARKED, Work
from sessiond_protocol import wire
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.job import (
    DatabaseBackup,
    DatabaseRestore,
    DatabaseVacuum,
    JobList,
    JobStart,
    JobState,
    JobStatus,
)

T = TypeVar("T")

PATIENCE = 10.0


class Errands:
    busy = False

    def run(self, errand: Callable[[], T], meanwhile: Callable[[], None] = lambda: None) -> T:
        return errand()


class Peer:
    """A connection that keeps its answers."""

    closed = False
    client_id = None

    def __init__(self, uid: int = 0) -> None:
        self.peer = SimpleNamespace(uid=uid)
        self.answers: asyncio.Queue[JobState] = asyncio.Queue()

    def answered(self, data: bytes, works: list[Work]) -> None:
        frame = wire.decode_frame(data)
        assert isinstance(frame, wire.ResponseFrame)
        assert frame.msgid == works[0].msgid
        self.answers.put_nowait(msgspec.msgpack.decode(frame.result, type=JobState))


class Setting:
    """A desk whose jobs go on step by step."""

    def __init__(self) -> None:
        self.steps = threading.Semaphore(0)
        self.desk = JobDesk(self.work, Errands())
        self.peer = Peer()

    def work(self, request: JobStart) -> JobWork:
        return JobWork(request.METHOD, self.run)

    def run(self, job: Job) -> dict[str, Any]:
        for number in range(2):
            assert self.steps.acquire(timeout=PATIENCE)
            job.say(f"step {number}")
        assert self.steps.acquire(timeout=PATIENCE)
        return {}

    def ask(self, request: Request[Any], seconds: float = PATIENCE) -> Any:
        now = time.monotonic()
        return self.desk.answer(Work(self.peer, 7, request, now, now + seconds, 10))

    async def told(self) -> JobState:
        return await asyncio.wait_for(self.peer.answers.get(), PATIENCE)


def with_desk(test: Callable[[Setting], Awaitable[None]]) -> None:
    async def run() -> None:
        setting = Setting()
        try:
            await test(setting)
        finally:
            setting.steps.release(3)
            assert setting.desk.jobs.join(PATIENCE)

    asyncio.run(run())


def test_an_answer_follows_each_change() -> None:
    async def follow(setting: Setting) -> None:
        job_id = setting.ask(DatabaseVacuum())
        state = setting.ask(JobStatus(job_id=job_id, wait=5.0))
        assert state.step == "starting"  # which is news to somebody who knows nothing
        for step in ("step 0", "step 1", "done"):
            question = JobStatus(job_id=job_id, version=state.version, wait=5.0)
            assert setting.ask(question) is PARKED
            setting.steps.release()
            state = await setting.told()
            assert state.step == step
        assert setting.ask(JobStatus(job_id=job_id, version=99, wait=5.0)) == state
        assert setting.ask(JobList()) == [state]

    with_desk(follow)


@pytest.mark.parametrize(("wait", "ttl"), [(0.01, PATIENCE), (5.0, 0.01), (float("inf"), 0.01)])
def test_without_a_change_the_answer_comes_in_time(wait: float, ttl: float) -> None:
    async def wait_in_vain(setting: Setting) -> None:
        job_id = setting.ask(DatabaseVacuum())
        question = JobStatus(job_id=job_id, version=1, wait=wait)
        assert setting.ask(question, ttl) is PARKED
        assert (await setting.told()).version == 1

    with_desk(wait_in_vain)


@pytest.mark.parametrize("wait", [0.0, -1.0, float("nan")])
def test_who_does_not_wait_is_answered_at_once(wait: float) -> None:
    async def ask(setting: Setting) -> None:
        job_id = setting.ask(DatabaseVacuum())
        assert setting.ask(JobStatus(job_id=job_id, version=9, wait=wait)).version == 1

    with_desk(ask)


def test_who_waits_is_let_go_at_the_end() -> None:
    async def release(setting: Setting) -> None:
        job_id = setting.ask(DatabaseVacuum())
        for _ in range(2):
            assert setting.ask(JobStatus(job_id=job_id, version=1, wait=5.0)) is PARKED
        setting.desk.release()
        assert [(await setting.told()).state for _ in range(2)] == ["running"] * 2

    with_desk(release)


def test_once_it_closes_only_an_end_is_told() -> None:
    async def close(setting: Setting) -> None:
        job_id = setting.ask(DatabaseVacuum())
        assert setting.ask(JobStatus(job_id=job_id, version=1, wait=5.0)) is PARKED
        assert setting.ask(JobStatus(job_id=job_id, version=1, wait=0.01)) is PARKED
        setting.desk.close()
        setting.steps.release(3)
        assert [(await setting.told()).state for _ in range(2)] == ["done"] * 2

    with_desk(close)


@pytest.mark.parametrize("request_type", [DatabaseBackup, DatabaseRestore])
def test_who_may_name_a_file(request_type: type[DatabaseBackup | DatabaseRestore]) -> None:
    async def ask(setting: Setting) -> None:
        setting.peer = Peer(uid=os.geteuid() + 1)
        with pytest.raises(Failure) as caught:
            setting.ask(request_type(path="/x"))
        assert caught.value.code is Code.UNAUTHORIZED
        assert f"not for uid {os.geteuid() + 1}" in caught.value.message
        assert setting.ask(DatabaseVacuum()) > 0
        setting.peer = Peer(uid=os.geteuid())
        assert setting.ask(request_type(path="/x")) > 0
        setting.steps.release(3)

    with_desk(ask)
