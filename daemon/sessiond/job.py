"""One job: long work on a thread of its own, what it says of itself, and its end."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from sessiond_protocol.requests.job import JobState

T = TypeVar("T")
Result = dict[str, Any]

# Nobody reads faster, and every change wakes the event loop.
_CHANGE_SECONDS: Final = 0.1

# While others are writing, long work gets a fifth of the time.
BUSY_SHARE: Final = 4


class Cancelled(Exception):
    """The daemon stops: the job ends where it is and leaves nothing behind."""


class Errands(Protocol):
    """The way between two batches; see :class:`sessiond.between.BetweenBatches`."""

    def run(self, errand: Callable[[], T], meanwhile: Callable[[], None] = lambda: None) -> T:
        """Have the writer run something, and wait for its result."""
        ...

    @property
    def busy(self) -> bool:
        """Whether writes wait for the writer."""
        ...


class Job:
    """A job as its own thread sees it. ``changed`` is called after each new version.

    ``state`` may be read from any thread.
    """

    def __init__(
        self,
        job_id: int,
        kind: str,
        errands: Errands,
        changed: Callable[[int], None] = lambda _job_id: None,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._errands = errands
        self._changed = changed
        self._now = now
        self._clock = clock
        self._changed_at = float("-inf")
        self._cancelled = threading.Event()
        self.state = JobState(job_id, kind, "running", "starting", None, now(), None, None, None, 1)

    # --- for the job's code ------------------------------------------------------------------

    def say(self, step: str, fraction: float | None = None) -> None:
        """Say what is done now, as often as one likes. Raises :class:`Cancelled`."""
        self.beat()
        now = self._clock()
        version = self.state.version
        due = step != self.state.step or now - self._changed_at >= _CHANGE_SECONDS
        if due:
            version += 1
            self._changed_at = now
        self._become("running", step, fraction, None, None, version)
        if due:
            self._changed(self.state.id)

    def beat(self) -> None:
        """To be called again and again in long work. Raises :class:`Cancelled`."""
        if self._cancelled.is_set():
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Wait. Raises :class:`Cancelled` at once when it comes to that."""
        if self._cancelled.wait(seconds):
            raise Cancelled

    def give_way(self, spent: float) -> None:
        """Leave most of the time to writes that wait, after so many seconds of work.

        Raises :class:`Cancelled` like :meth:`pause`.
        """
        if self._errands.busy:
            self.pause(BUSY_SHARE * spent)

    def between_batches(
        self, errand: Callable[[], T], meanwhile: Callable[[], None] = lambda: None
    ) -> T:
        """Run something on the writer's thread, between two batches; its result or its error.

        Everything that touches the write connection goes this way. Nothing is written while it
        runs, so it has to be over in about 10 ms, or the job's step says that others wait.
        ``meanwhile`` is called every second on the job's thread. Raises :class:`Cancelled` when
        there is no writer any more, but not because the job is cancelled: cleaning up also goes
        this way.
        """
        return self._errands.run(errand, meanwhile)

    # --- for the registry --------------------------------------------------------------------

    def cancel(self) -> None:
        """Have it end at the next opportunity. From any thread."""
        self._cancelled.set()

    def done(self, result: Result) -> None:
        """It ended well."""
        self._end("done", None, result)

    def failed(self, code: str, message: str) -> None:
        """It ended otherwise."""
        self._end("failed", (code, message), None)

    def _end(
        self,
        state: Literal["done", "failed"],
        error: tuple[str, str] | None,
        result: Result | None,
    ) -> None:
        fraction = 1.0 if state == "done" else self.state.fraction
        step = "done" if state == "done" else self.state.step
        self._become(state, step, fraction, error, result, self.state.version + 1)
        self._changed(self.state.id)

    def _become(
        self,
        state: Literal["running", "done", "failed"],
        step: str,
        fraction: float | None,
        error: tuple[str, str] | None,
        result: Result | None,
        version: int,
    ) -> None:
        before = self.state
        ended = None if state == "running" else self._now()
        # In one assignment: whoever looks at the same time sees the one or the other.
        self.state = JobState(
            before.id, before.kind, state, step, fraction, before.started, ended, error, result,
            version,
        )  # fmt: skip


class JobWork(NamedTuple):
    """What a job does: ``run`` on a thread of its own; its result is the job's.

    ``run`` raises :class:`~sessiond_protocol.errors.Failure` for what people are told. One of a
    ``kind`` runs at a time; an ``exclusive`` one runs alone.
    """

    kind: str
    run: Callable[[Job], Result]
    exclusive: bool = False
