"""What every peer shares: its command line, the run, and the result on standard output.

A peer is a program: ``python -m tests.load.peers.direct --database new.db --processes 8
--seconds 10 --mix append``. It makes the database (an existing file is refused: a benchmark must
never write into somebody's own), works, and prints one JSON object. Exit status: 0 with a result,
2 for wrong arguments, 3 with ``{"peer": ..., "unsupported": why}`` when it cannot do the mix.
"""

import argparse
import json
import platform
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from sessiond_client.bench.loops import Store, one_at_a_time
from sessiond_client.bench.operations import READS, Mix, Work, prefilled_sessions
from sessiond_client.bench.summary import figures, stored_by
from sessiond_client.bench.workers import LONGEST_SECONDS, Loop, Outcome, Task, run_together, share
from tests.support.corpus import paragraphs

EXIT_UNSUPPORTED: Final = 3
_PARAGRAPHS: Final = 5000
_STORED_FOR_READS: Final = 10_000


class Unsupported(Exception):
    """The peer cannot do what was asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One run as the command line has it. ``count`` is the total over all workers, or None."""

    database: Path
    processes: int
    seconds: float
    count: int | None
    mix: Mix
    seed: int
    warm_up: float
    in_flight: int
    stored: int
    session_length: int


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to store sessions. All functions are module-level: workers get them by name.

    ``prepare(settings, text)`` makes the file with ``settings.stored`` messages in it;
    ``open_store(database, worker)`` runs in the worker, which owns the sessions of that number.
    """

    name: str
    mixes: frozenset[Mix]
    missing: str
    prepare: Callable[[Settings, Sequence[str]], None]
    open_store: Callable[[Path, int], Store]
    loop_for: Callable[[Settings], Loop]
    one_process: bool = False
    keeps_in_flight: bool = False
    versions: Callable[[], dict[str, str]] = field(default=dict)


def always_one_at_a_time(_settings: Settings) -> Loop:
    """The loop of a store that answers before it takes the next operation."""
    return one_at_a_time


def main(peer: Peer, arguments: Sequence[str] | None = None) -> int:
    """Run the peer as a program; gives its exit status."""
    settings, text = _parse(peer, arguments)
    try:
        result = run(peer, settings, text)
    except Unsupported as exc:
        result = {"peer": peer.name, "mix": settings.mix.value, "unsupported": str(exc)}
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")
    return EXIT_UNSUPPORTED if "unsupported" in result else 0


def run(peer: Peer, settings: Settings, text: Sequence[str]) -> dict[str, Any]:
    """Make the database, let the workers work, and sum up. Unsupported if the peer cannot."""
    if settings.mix not in peer.mixes:
        raise Unsupported(f"{peer.name} has no {settings.mix.value}: {peer.missing}")
    processes = 1 if peer.one_process else settings.processes
    peer.prepare(settings, text)
    outcome = run_together(
        [
            Task(
                open_store=partial(peer.open_store, settings.database),
                loop=peer.loop_for(settings),
                mix=settings.mix,
                work=Work(
                    settings.seed,
                    worker,
                    text,
                    prefilled_sessions(settings.stored, settings.session_length),
                ),
                seconds=settings.seconds,
                count=share(settings.count, worker, processes),
                warm_up=settings.warm_up,
            )
            for worker in range(processes)
        ]
    )
    return _summary(peer, settings, outcome)


def _summary(peer: Peer, settings: Settings, outcome: Outcome) -> dict[str, Any]:
    return {
        "peer": peer.name,
        "mix": settings.mix.value,
        "processes": len(outcome.reports),
        "in_flight": settings.in_flight if peer.keeps_in_flight else 1,
        "seed": settings.seed,
        **figures(outcome, settings.seconds, settings.count),
        "stored_messages": settings.stored + stored_by(outcome),
        "versions": {"python": platform.python_version()} | peer.versions(),
    }


def standard_library_versions() -> dict[str, str]:
    """The SQLite that ``sqlite3`` brings."""
    return {"sqlite": sqlite3.sqlite_version}


def _parse(peer: Peer, arguments: Sequence[str] | None) -> tuple[Settings, list[str]]:
    parser = argparse.ArgumentParser(prog=f"python -m tests.load.peers.{peer.name}")
    add = parser.add_argument
    add("--database", type=Path, required=True, help="a file that does not exist yet")
    add("--processes", type=_at_least(1), default=8)
    add("--seconds", type=_duration, help="default 10, or 600 with --count")
    add("--count", type=_at_least(1), help="stop after so many operations in all")
    add(
        "--mix",
        type=Mix,
        choices=list(Mix),
        default=Mix.APPEND,
        metavar="MIX",
        help=", ".join(mix.value for mix in Mix),
    )
    add("--seed", type=int, default=1)
    add("--warm-up", type=_duration, default=0.5, metavar="SECONDS")
    add("--in-flight", type=_at_least(1), default=1, help="per process, where the peer can")
    add("--stored", type=_at_least(0), help="messages before the work; default 10000 for reads")
    add("--session-length", type=_at_least(1), default=200, help="messages per stored session")
    add("--text", type=Path, help="a JSON array of texts in place of the usual paragraphs")
    chosen = parser.parse_args(arguments)
    if chosen.database.exists():
        parser.error(f"{chosen.database} exists; a peer works on a new file only")
    stored = chosen.stored
    if stored is None:
        stored = _STORED_FOR_READS if chosen.mix in READS else 0
    if chosen.mix is Mix.TRANSCRIPT and stored == 0:
        parser.error("the transcript mix needs stored messages; --stored 0 leaves none")
    seconds = chosen.seconds or (10.0 if chosen.count is None else LONGEST_SECONDS)
    if seconds > LONGEST_SECONDS:
        parser.error(f"--seconds {seconds:g} exceeds {LONGEST_SECONDS:g}")
    settings = Settings(
        database=chosen.database,
        processes=chosen.processes,
        seconds=seconds,
        count=chosen.count,
        mix=chosen.mix,
        seed=chosen.seed,
        warm_up=chosen.warm_up,
        in_flight=chosen.in_flight,
        stored=stored,
        session_length=chosen.session_length,
    )
    return settings, _text(parser, chosen.text, chosen.seed)


def _text(parser: argparse.ArgumentParser, path: Path | None, seed: int) -> list[str]:
    if path is None:
        return paragraphs(seed, _PARAGRAPHS)
    texts: Any = json.loads(path.read_text(encoding="utf-8"))
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)):
        parser.error(f"{path} is not a JSON array of texts")
    return list(texts)


def _at_least(smallest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"{value} is less than {smallest}")
        return value

    return number


def _duration(text: str) -> float:
    value = float(text)
    if not 0 <= value <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and {LONGEST_SECONDS:g} seconds")
    return value
