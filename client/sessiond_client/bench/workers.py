"""Processes that start to work at the same moment, stop by themselves, and leave nothing behind."""

import contextlib
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from sessiond_client.bench.latency import Bounds, Notes, WorkerReport
from sessiond_client.bench.loops import Store
from sessiond_client.bench.operations import Mix, Operation, Work, operations

# What a worker may take beyond its own time to get ready, and to give up its last operation.
_GRACE_SECONDS: Final = 120.0
# From the word to start until all workers start: every one of them has read it by then.
_HEAD_START_SECONDS: Final = 0.1
# A run that is bounded by a count alone is given up after this.
LONGEST_SECONDS: Final = 600.0

Loop = Callable[[Any, Iterator[Operation], Notes], None]


@dataclass(frozen=True, slots=True)
class Task:
    """What one worker process gets: how to open its store, how to drive it, on what work.

    ``seconds`` and ``warm_up`` are durations; ``count`` is the worker's own share or None.
    """

    open_store: Callable[[int], Store]
    loop: Loop
    mix: Mix
    work: Work
    seconds: float
    count: int | None
    warm_up: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """When the workers started (monotonic clock) and what they noted."""

    start: float
    reports: tuple[WorkerReport, ...]


def _nobody_looks() -> None:
    """Nothing but the workers is watched."""


def run_together(tasks: Sequence[Task], look: Callable[[], None] = _nobody_looks) -> Outcome:
    """Run every task in a process of its own; RuntimeError if one ends without a report.

    ``look`` is called twice: when all are warmed up and wait, and when the last is done.
    """
    context = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    pipes: list[Pipe] = []
    resource_tracker.ensure_running()  # the first start would begin it, and let interrupts in
    try:
        for task in tasks:
            ours, theirs = context.Pipe()
            pipes.append(ours)
            process = context.Process(target=_work, args=(task, theirs), daemon=True)
            with _deaf_to_interrupts():
                process.start()
            processes.append(process)
            theirs.close()  # else the end of a worker would go unnoticed
        return _lead(tasks, pipes, look)
    except KeyboardInterrupt:
        for process in processes:
            process.kill()  # it would work on for as long as it was told to
        raise
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            _end(process)


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started inside never gets SIGINT, which Ctrl-C sends to workers and leader alike.

    The mask is inherited, so there is no moment before the worker's own code in which it could die
    of the signal, and with a traceback. The leader gets at the end what came meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def share(count: int | None, worker: int, processes: int) -> int | None:
    """One worker's part of ``count`` operations; None of None."""
    if count is None:
        return None
    return count // processes + (worker < count % processes)


def _lead(tasks: Sequence[Task], pipes: Sequence[Pipe], look: Callable[[], None]) -> Outcome:
    for task, pipe in zip(tasks, pipes, strict=True):
        _receive(task, pipe, task.warm_up + _GRACE_SECONDS)
    look()
    start = time.monotonic() + _HEAD_START_SECONDS
    for task, pipe in zip(tasks, pipes, strict=True):
        pipe.send(Bounds(start, start + task.seconds, task.count))
    reports = [
        _receive(task, pipe, task.seconds + _GRACE_SECONDS)
        for task, pipe in zip(tasks, pipes, strict=True)
    ]
    look()
    return Outcome(start, tuple(reports))


def _receive(task: Task, pipe: Pipe, seconds: float) -> Any:
    if not pipe.poll(seconds):
        raise RuntimeError(f"worker {task.work.worker} said nothing for {seconds:g} s")
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError(f"worker {task.work.worker} ended without a report") from None


def _end(process: SpawnProcess) -> None:
    # Its pipe is closed, so a worker that waits for a word ends by itself.
    process.join(5.0)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def _work(task: Task, pipe: Pipe) -> None:
    store = task.open_store(task.work.worker)
    try:
        endless = operations(task.mix, task.work)
        warm_up = _warm_up(task, store, endless)
        pipe.send("ready")
        bounds: Bounds = pipe.recv()
        time.sleep(max(0.0, bounds.start - time.monotonic()))
        before = _cpu_seconds()
        notes = Notes(bounds)
        task.loop(store, endless, notes)
        cpu = _cpu_seconds() - before
        pipe.send(WorkerReport(task.work.worker, warm_up.messages, cpu, notes))
    except EOFError:
        return  # the leader gave up and has said why
    finally:
        store.close()
        pipe.close()


def _warm_up(task: Task, store: Store, endless: Iterator[Operation]) -> Notes:
    now = time.monotonic()
    notes = Notes(Bounds(now, now + task.warm_up, None))
    task.loop(store, endless, notes)
    return notes


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
