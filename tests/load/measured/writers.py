"""Processes that write at full speed beside what is measured: a program, and how to run it.

``python -m tests.load.measured.writers DATABASE SOCKET TEXT RUN SECONDS`` has eight processes
pipeline appends. It prints ``writing`` when all are about to start, and what came of it as JSON.
"""

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from sessiond_client.bench.operations import Mix, Work
from sessiond_client.bench.store import PipeliningStore, Target, keep_in_flight
from sessiond_client.bench.summary import figures
from sessiond_client.bench.workers import Task, run_together
from tests.load.measured.site import Site
from tests.load.programs import ROOT

PROCESSES: Final = 8
IN_FLIGHT: Final = 200
_WORD: Final = "writing"
# Processes start, and write for a moment before they are measured.
_WARM_UP: Final = 0.3
# What is measured beside the writers must end before they do.
_LONGER: Final = 0.3


class Writing:
    """What the writers did: known once they have ended."""

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}

    def latency(self, name: str) -> float:
        """A percentile of their appends, in seconds."""
        return float(self.result["latency_ms"][name]) / 1000

    @property
    def rate(self) -> float:
        """Messages a second."""
        return float(self.result["messages_per_second"])


@contextlib.contextmanager
def writing(site: Site, target: Target, run: str, seconds: float) -> Iterator[Writing]:
    """While this is open the writers write, for at most ``seconds``; then it waits for them.

    ``run`` begins the ids of their sessions.
    """
    assert target.socket is not None
    text = site.folder / "text.json"
    if not text.exists():
        text.write_text(json.dumps(list(site.text)), encoding="utf-8")
    words = (target.database, target.socket, text, run, seconds + _LONGER)
    command = [sys.executable, "-m", "tests.load.measured.writers", *map(str, words)]
    program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    done = Writing()
    try:
        if program.stdout.readline().strip() != _WORD:
            raise RuntimeError("the writers did not start")
        yield done
        said, _ = program.communicate()
        done.result = json.loads(said)
        if done.result["failed"]:
            raise RuntimeError(f"appends failed: {done.result['first_failure']}")
    finally:
        end(program)


def end(program: "subprocess.Popen[str]") -> None:
    """Let go of a program, whether it has ended or not."""
    program.kill()
    program.wait()
    for pipe in (program.stdin, program.stdout):
        if pipe is not None:
            pipe.close()


def main(words: list[str]) -> None:
    """Write, and say when and what."""
    database, socket, text, run, seconds = words
    texts: list[str] = json.loads(Path(text).read_text(encoding="utf-8"))
    target = Target(Path(database), Path(socket), "daemon")
    looks = itertools.count()
    outcome = run_together(
        [_task(target, texts, run, float(seconds), worker) for worker in range(PROCESSES)],
        lambda: print(_WORD, flush=True) if next(looks) == 0 else None,
    )
    print(json.dumps(figures(outcome, float(seconds), None)))


def _task(target: Target, text: list[str], run: str, seconds: float, worker: int) -> Task:
    return Task(
        open_store=partial(PipeliningStore, target, run),
        loop=partial(keep_in_flight, IN_FLIGHT),
        mix=Mix.APPEND,
        work=Work(seed=1, worker=worker, text=text, stored_sessions=(), run=run),
        seconds=seconds,
        count=None,
        warm_up=_WARM_UP,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
