"""What ``import sessiond_client`` costs a program, beside a Python that imports nothing."""

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from tests.load.measured.goals import Beside, Goal, Measure, Round, Unit
from tests.load.measured.site import Site

_BARE: Final = "pass"
_CLIENT: Final = "import sessiond_client"
_PROGRAMS: Final = (_BARE, _CLIENT)
_TIME, _CPU, _MEMORY = "time", "processor time", "memory"
_PAIRS_PER_SECOND: Final = 5
_TELL_MEMORY: Final = "print(open('/proc/self/status').read())"


@contextlib.contextmanager
def _prepared(site: Site) -> Iterator[Callable[[int], Round]]:
    for program in _PROGRAMS:
        _run(program)  # compiled files are written now
    yield lambda number: _round(site, number)


def _round(site: Site, number: int) -> Round:
    runs: dict[str, list[tuple[float, float, float]]] = {program: [] for program in _PROGRAMS}
    for pair in range(max(3, round(site.seconds * _PAIRS_PER_SECOND))):
        for program in _PROGRAMS if (pair + number) % 2 == 0 else _PROGRAMS[::-1]:
            runs[program].append(_run(program))
    return {
        f"{program}: {what}": statistics.median(run[at] for run in runs[program])
        for program in _PROGRAMS
        for at, what in enumerate((_TIME, _CPU, _MEMORY))
    }


def _run(program: str) -> tuple[float, float, float]:
    """Seconds, seconds of processor time, and the most bytes of memory, start to end."""
    reader, writer = os.pipe()
    with open(reader, "rb") as said:
        started = time.perf_counter()
        # Not subprocess: only wait4 tells what this one child has used. Of its memory it tells
        # that of the parent before the program was loaded, so the child looks by itself.
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", f"{program}\n{_TELL_MEMORY}"],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
        )
        os.close(writer)
        _, status, used = os.wait4(pid, 0)
        taken = time.perf_counter() - started
        told = said.read()
    if status != 0:
        raise RuntimeError(f"python -c {program!r} ended with wait status {status}")
    kibibytes = int(told.partition(b"VmHWM:")[2].split()[0])
    return taken, used.ru_utime + used.ru_stime, kibibytes * 1024.0


MEASURE: Final = Measure(
    name="import",
    about="a Python that imports the client library, beside one that imports nothing",
    figures={
        f"{program}: {what}": unit
        for program in _PROGRAMS
        for what, unit in ((_TIME, Unit.SECONDS), (_CPU, Unit.SECONDS), (_MEMORY, Unit.BYTES))
    },
    goals=(
        Goal("import of the client", f"{_CLIENT}: {_TIME}", f"{_BARE}: {_TIME}", 0.060,
             Beside.ABOVE),
        Goal("import of the client, processor time", f"{_CLIENT}: {_CPU}", f"{_BARE}: {_CPU}",
             None, Beside.ABOVE),
        Goal("import of the client, memory", f"{_CLIENT}: {_MEMORY}", f"{_BARE}: {_MEMORY}",
             15.0 * (1 << 20), Beside.ABOVE),
    ),
    prepared=_prepared,
)  # fmt: skip
