"""The event loop's side of jobs: starting them, and answers that wait for a change."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from sessiond.job import Errands, JobWork
from sessiond.jobs import Jobs
from sessiond.work import PARKED, Work
from sessiond_protocol import wire
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests.job import MOST_WAIT, JobList, JobStart, JobState, JobStatus


class JobDesk:
    """Answers the requests about jobs. Everything here runs on the event loop.

    ``work_of`` says what a request for long work does, on a thread of its own.

    A request that waits for a change is parked: its connection counts it as on its way, and
    gets the answer when the job has changed or the time is up.
    """

    def __init__(self, work_of: Callable[[JobStart], JobWork], errands: Errands) -> None:
        self._work_of = work_of
        self._loop = asyncio.get_running_loop()
        self._parked: dict[int, dict[Work, asyncio.TimerHandle]] = {}
        self._closing = False
        self.jobs = Jobs(errands, self._tell)

    def answer(self, work: Work) -> Any:
        """The answer, or ``PARKED`` when it follows later. Raises :class:`Failure`."""
        request = work.request
        if isinstance(request, JobStart):
            if request.NAMES_FILE:
                _refuse_others(work)
            return self.jobs.start(self._work_of(request), request.key)
        if isinstance(request, JobStatus):
            return self._status(work, request)
        if isinstance(request, JobList):
            return self.jobs.states()
        raise Failure(Code.UNKNOWN_METHOD, f"{request.METHOD} is not known here")

    def _status(self, work: Work, request: JobStatus) -> Any:
        state = self.jobs.state(request.job_id)
        # The time that the caller gave the request bounds it, too: it must hear of it in time.
        wait = min(max(0.0, request.wait), MOST_WAIT, work.deadline - time.monotonic())
        if state.state != "running" or state.version > request.version or wait <= 0:
            return state
        timer = self._loop.call_later(wait, self._time_is_up, request.job_id, work)
        self._parked.setdefault(request.job_id, {})[work] = timer
        return PARKED

    def _tell(self, job_id: int) -> None:
        """A job has changed; on its thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._changed, job_id)

    def _changed(self, job_id: int) -> None:
        parked = self._parked.get(job_id)
        if parked is None:
            return
        state = self._state(job_id)
        for work, timer in list(parked.items()):
            assert isinstance(work.request, JobStatus)
            if (
                isinstance(state, Failure)
                or state.state != "running"
                or (state.version > work.request.version and not self._closing)
            ):
                timer.cancel()
                self._answer(job_id, work)

    def _state(self, job_id: int) -> JobState | Failure:
        try:
            return self.jobs.state(job_id)
        except Failure as failure:  # so many have ended since that it is forgotten
            return failure

    def _answer(self, job_id: int, work: Work) -> None:
        parked = self._parked[job_id]
        del parked[work]
        if not parked:
            del self._parked[job_id]
        state = self._state(job_id)
        data = (
            wire.error_response(work.msgid, state.wire())
            if isinstance(state, Failure)
            else wire.response(work.msgid, state)
        )
        work.peer.answered(data, [work])

    def _time_is_up(self, job_id: int, work: Work) -> None:
        if not self._closing:
            self._answer(job_id, work)

    def close(self) -> None:
        """The daemon reads no more requests: tell of a job's end alone, from now on.

        Whoever was told that it goes on would ask again, and hear nothing.
        """
        self._closing = True

    def release(self) -> None:
        """Answer everybody who waits, whatever there is to say."""
        for job_id, works in list(self._parked.items()):
            for work, timer in list(works.items()):
                timer.cancel()
                self._answer(job_id, work)


def _refuse_others(work: Work) -> None:
    """Whoever may use the database may not, for that, do what the daemon's user may with files."""
    uid = work.peer.peer.uid
    if uid not in (0, os.geteuid()):
        raise Failure(
            Code.UNAUTHORIZED,
            f"{work.request.METHOD} is for root and uid {os.geteuid()}, which the daemon runs as,"
            f" not for uid {uid}",
        )
