"""The jobs that run and the last that ended."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from sessiond.job import Cancelled, Errands, Job, JobWork
from sessiond.thread_names import show_name
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests.job import JobState

log = logging.getLogger("sessiond.jobs")

MOST_KEPT: Final = 32


class Jobs:
    """Starts jobs, one thread each. Everything here may be called from any thread.

    ``changed`` gets the id of a job whose state has a new version, on the job's thread.
    ``first_id`` must be beyond what an earlier daemon of the database may have given: whoever
    asks for a job of that one must not be told of another.
    """

    def __init__(
        self,
        errands: Errands,
        changed: Callable[[int], None] = lambda _job_id: None,
        first_id: int | None = None,
    ) -> None:
        self._errands = errands
        self._changed = changed
        self._next_id = time.time_ns() // 1_000_000 if first_id is None else first_id
        self._lock = threading.Lock()
        self._jobs: dict[int, Job] = {}  # in the order they were started
        self._exclusive: set[int] = set()  # of those that run
        self._threads: dict[int, threading.Thread] = {}  # of those that run
        self._keys: dict[bytes, int] = {}
        self._stopping = False
        self._finished: dict[str, dict[str, int]] = {}
        self.last_backup: float | None = None

    # --- asking ------------------------------------------------------------------------------

    def start(self, work: JobWork, key: bytes = b"") -> int:
        """Start a job; its id. What was started under the same key is not started again.

        Raises :class:`Failure`: ``conflict`` if another job is in its way.
        """
        with self._lock:
            if key in self._keys:
                return self._keys[key]
            if self._stopping:
                raise Failure(Code.SHUTTING_DOWN, "the daemon is stopping", {"applied": False})
            self._make_sure_of_room(work)
            job_id, self._next_id = self._next_id, self._next_id + 1
            job = self._jobs[job_id] = Job(job_id, work.kind, self._errands, self._changed)
            if key:
                self._keys[key] = job_id
            if work.exclusive:
                self._exclusive.add(job_id)
            thread = threading.Thread(
                target=self._run, args=(job, work), name=f"job {work.kind}", daemon=True
            )
            self._threads[job_id] = thread
            self._forget_oldest()
            thread.start()
        return job_id

    def _make_sure_of_room(self, work: JobWork) -> None:
        for job_id in self._threads:
            running = self._jobs[job_id].state
            if running.kind == work.kind:
                why = f"a {work.kind} job runs already: {job_id}"
            elif work.exclusive:
                why = f"a {work.kind} job has to run alone, and job {job_id} ({running.kind}) runs"
            elif job_id in self._exclusive:
                why = f"job {job_id} ({running.kind}) has to run alone"
            else:
                continue
            raise Failure(Code.CONFLICT, why, {"job_id": job_id})

    def _forget_oldest(self) -> None:
        ended = [job_id for job_id in self._jobs if job_id not in self._threads]
        for job_id in ended[: max(0, len(ended) - MOST_KEPT)]:
            del self._jobs[job_id]
        self._keys = {key: job_id for key, job_id in self._keys.items() if job_id in self._jobs}

    def state(self, job_id: int) -> JobState:
        """How a job stands. Raises :class:`Failure` (``not_found``)."""
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise Failure(Code.NOT_FOUND, f"there is no job {job_id} in this life of the daemon")
        return job.state

    def states(self) -> list[JobState]:
        """Those that run and the last that ended, in the order they were started."""
        with self._lock:
            return [job.state for job in self._jobs.values()]

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._threads)

    def statistics(self) -> dict[str, Any]:
        """For ``server.stats``: the jobs without their results, and how many ended how."""
        states = self.states()
        with self._lock:
            finished = {kind: dict(counts) for kind, counts in self._finished.items()}
        return {
            "jobs": [{**msgspec.structs.asdict(state), "result": None} for state in states],
            "jobs_finished": finished,
            "last_backup": self.last_backup,
        }

    # --- running -----------------------------------------------------------------------------

    def _run(self, job: Job, work: JobWork) -> None:
        show_name()
        log.info("job %d (%s) begins", job.state.id, work.kind)
        try:
            result = work.run(job)
        except Cancelled:
            self._ended(job, Failure(Code.SHUTTING_DOWN, "the daemon is stopping"))
        except Failure as failure:
            self._ended(job, failure)
        except BaseException as error:
            log.exception("the job %s failed in a way that nobody foresaw", work.kind)
            self._ended(job, Failure(Code.INTERNAL, f"{type(error).__name__}: {error}"))
        else:
            self._ended(job, None, result)

    def _ended(
        self, job: Job, failure: Failure | None, result: dict[str, Any] | None = None
    ) -> None:
        job_id, kind = job.state.id, job.state.kind
        with self._lock:
            counts = self._finished.setdefault(kind, {"done": 0, "failed": 0})
            counts["done" if failure is None else "failed"] += 1
            # Before anybody can see that it has ended, and ask for the next one.
            del self._threads[job_id]
            self._exclusive.discard(job_id)
            if failure is None and kind == "backup":
                self.last_backup = time.time()
        if failure is None:
            log.info("job %d (%s) is done", job_id, kind)
            job.done(result or {})
        else:
            log.warning("job %d (%s) failed: %s", job_id, kind, failure.message)
            job.failed(failure.code.value, failure.message)

    # --- the end -----------------------------------------------------------------------------

    def stop(self) -> None:
        """Start no more, and have those that run end at the next opportunity."""
        with self._lock:
            self._stopping = True
            running = [self._jobs[job_id] for job_id in self._threads]
        for job in running:
            job.cancel()

    def join(self, timeout: float) -> bool:
        """Wait for those that run; False if one has not ended by then."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = list(self._threads.values())
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)
