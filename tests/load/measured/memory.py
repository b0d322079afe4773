"""What the daemon holds in memory: at rest after a load, and while clients flood it."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from sessiond_client import SessionDB
from sessiond_client.bench.daemon import resident_bytes
from sessiond_client.bench.store import Target
from tests.load.measured.goals import Goal, Measure, Round, Unit
from tests.load.measured.site import Site
from tests.load.measured.writers import end, writing
from tests.load.programs import ROOT

_MEBIBYTE: Final = float(1 << 20)
_CLIENTS: Final = 64
_SMALL, _LARGE = 10, 8_000
# What a daemon puts off until nobody asks for anything happens within that time.
_REST_SECONDS: Final = 5.0
_LOOKS_APART: Final = 0.02

_FRESH: Final = "just started"
_REST: Final = "at rest after a load"
_FLOOD: Final = "highest in a flood of small messages"
_FLOOD_LARGE: Final = "highest in a flood of large messages"
_AFTER: Final = "at rest after the floods"


@contextlib.contextmanager
def _prepared(site: Site) -> Iterator[Callable[[int], Round]]:
    yield lambda number: _round(site, number)


def _round(site: Site, number: int) -> Round:
    with site.serving(f"memory-{number}") as target:
        with SessionDB(**target.arguments) as db:
            db.create_session("s", "flood")
            pid = db.get_stats()["pid"]
        found = {_FRESH: _resident(pid)}
        with writing(site, target, "load-", site.seconds):
            pass
        found[_REST] = _resting(pid)
        found[_FLOOD] = _flooded(target, pid, _SMALL, site.seconds)
        found[_FLOOD_LARGE] = _flooded(target, pid, _LARGE, site.seconds)
        found[_AFTER] = _resting(pid)
    return found


def _resident(pid: int) -> float:
    found = resident_bytes(pid)
    if found is None:
        raise RuntimeError(f"the system does not say what process {pid} holds in memory")
    return float(found)


def _resting(pid: int) -> float:
    time.sleep(_REST_SECONDS)
    return _resident(pid)


def _flooded(target: Target, pid: int, size: int, seconds: float) -> float:
    """The most that the daemon held while clients sent messages of ``size`` characters."""
    command = ("-m", "tests.support.flood", str(target.socket), str(_CLIENTS), str(size))
    program = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        if program.stdout.readline() != "flooding\n":
            raise RuntimeError("the flood did not start")
        highest = 0.0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            highest = max(highest, _resident(pid))
            time.sleep(_LOOKS_APART)
        return highest
    finally:
        end(program)


MEASURE: Final = Measure(
    name="memory",
    about="resident size of a daemon, at rest and under 64 clients that send without a pause",
    figures=dict.fromkeys((_FRESH, _REST, _FLOOD, _FLOOD_LARGE, _AFTER), Unit.BYTES),
    goals=(
        Goal("memory at rest after a load", _REST, bound=80 * _MEBIBYTE),
        Goal("memory in a flood of small messages", _FLOOD, bound=200 * _MEBIBYTE),
        Goal("memory in a flood of large messages", _FLOOD_LARGE, bound=400 * _MEBIBYTE),
    ),
    prepared=_prepared,
)
