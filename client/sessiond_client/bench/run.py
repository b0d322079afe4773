"""One measurement of a daemon: fill it, let the workers work, sum up."""

import itertools
import platform
import sqlite3
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from sessiond_client import SessionDB
from sessiond_client.bench.daemon import Look, used
from sessiond_client.bench.loops import one_at_a_time
from sessiond_client.bench.operations import (
    READS,
    Mix,
    Work,
    prefilled_sessions,
    worker_sessions,
)
from sessiond_client.bench.store import ClientStore, PipeliningStore, Target, keep_in_flight
from sessiond_client.bench.summary import all_latencies, figures, stored_by
from sessiond_client.bench.workers import Outcome, Task, run_together, share

STORED_FOR_READS: Final = 10_000
_MESSAGES_PER_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. ``count`` is the total over all workers, or None.

    ``stored`` messages, ``session_length`` to a session, are there before the work begins (None:
    what the mix needs). ``run`` begins the ids of all sessions that are made.
    """

    mix: Mix = Mix.APPEND
    processes: int = 8
    in_flight: int = 1
    seconds: float = 10.0
    count: int | None = None
    warm_up: float = 0.5
    stored: int | None = None
    session_length: int = 200
    seed: int = 1
    run: str = ""

    @property
    def stored_before(self) -> int:
        """How many messages are there before the work begins."""
        if self.stored is not None:
            return self.stored
        return STORED_FOR_READS if self.mix in READS else 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it: figures under the names that they have for every store, and latencies."""

    figures: dict[str, Any]
    latencies: "array[float]"


def measure(target: Target, settings: Settings, text: Sequence[str]) -> Measured:
    """Run the workers against a daemon that serves. Its sessions stay until :func:`clear`."""
    looks: list[Look] = []
    arguments: dict[str, Any] = {**target.arguments, "reads": "daemon"}
    with SessionDB(**arguments) as db:
        fill(db, settings, text)
        outcome = run_together(
            [_task(target, settings, text, worker) for worker in range(settings.processes)],
            lambda: looks.append(Look.at(db)),
        )
    return Measured(_all_figures(settings, outcome, *looks), all_latencies(outcome))


def fill(db: SessionDB, settings: Settings, text: Sequence[str]) -> None:
    """Store what has to be there before the work begins."""
    messages, length = settings.stored_before, settings.session_length
    numbered = list(enumerate(prefilled_sessions(messages, length, settings.run)))
    together = max(1, _MESSAGES_PER_BATCH // length)
    texts = itertools.cycle(text)
    for first in range(0, len(numbered), together):
        with db.batch() as batch:
            for number, session in numbered[first : first + together]:
                batch.create_session(session, "bench")
                places = range(number * length, min((number + 1) * length, messages))
                stored = [_stored_message(place, next(texts)) for place in places]
                batch.append_messages(session, stored)


def _stored_message(place: int, content: str) -> dict[str, Any]:
    role = "user" if place % 2 == 0 else "assistant"
    return {"role": role, "content": content, "timestamp": 1.7e9 + place}


def clear(target: Target, settings: Settings) -> None:
    """Delete every session that :func:`measure` made."""
    names = prefilled_sessions(settings.stored_before, settings.session_length, settings.run)
    for worker in range(settings.processes):
        names += worker_sessions(worker, settings.run)
    with SessionDB(**target.arguments) as db:
        for name in names:
            db.delete_session(name)


def _task(target: Target, settings: Settings, text: Sequence[str], worker: int) -> Task:
    many = settings.in_flight > 1
    return Task(
        open_store=partial(PipeliningStore if many else ClientStore, target, settings.run),
        loop=partial(keep_in_flight, settings.in_flight) if many else one_at_a_time,
        mix=settings.mix,
        work=Work(
            settings.seed,
            worker,
            text,
            prefilled_sessions(settings.stored_before, settings.session_length, settings.run),
            settings.run,
        ),
        seconds=settings.seconds,
        count=share(settings.count, worker, settings.processes),
        warm_up=settings.warm_up,
    )


def _all_figures(settings: Settings, outcome: Outcome, before: Look, after: Look) -> dict[str, Any]:
    return {
        "peer": "sessiond",
        "mix": settings.mix.value,
        "processes": settings.processes,
        "in_flight": settings.in_flight,
        "seed": settings.seed,
        **figures(outcome, settings.seconds, settings.count),
        "stored_messages": settings.stored_before + stored_by(outcome),
        "daemon": used(before, after),
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "sessiond": version("sessiond"),
            "daemon": after.stats["version"],
        },
    }
