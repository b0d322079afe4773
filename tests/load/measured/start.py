"""How soon a daemon answers after it was started, on a large database and on an empty one."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket  # noqa: N812
from typing import Final

from tests.load.measured.goals import Goal, Measure, Round, Unit
from tests.load.measured.large import large
from tests.load.measured.site import Site
from tests.support.raw import Raw

_LOOKS_APART: Final = 0.002
_PATIENCE: Final = 30.0

_EMPTY: Final = "empty database"
_LARGE: Final = "large database"
_COLD: Final = "large database, not in the page cache"
_SIZE: Final = "size of the large database"


@contextlib.contextmanager
def _prepared(site: Site) -> Iterator[Callable[[int], Round]]:
    many = large(site)
    none = site.folder / "empty"
    with site.serving("empty"):
        pass  # made now: an existing file without messages is what is compared

    def measured(number: int) -> Round:
        ways: list[tuple[str, Path, bool]] = [
            (_EMPTY, none, False),
            (_LARGE, many, False),
            (_COLD, many, True),
        ]
        found = {_SIZE: float((many / "state.db").stat().st_size)}
        for name, folder, cold in ways if number % 2 == 0 else ways[::-1]:
            if cold:
                _forget(folder / "state.db")
            found[name] = _started(folder)
        return found

    yield measured


def _started(folder: Path) -> float:
    """Seconds from the start of the program to the answer to a ping."""
    database, path = folder / "state.db", folder / "sock"
    command = [sys.executable, "-m", "sessiond", "serve"]
    with (folder / "log").open("ab") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--database", str(database), "--socket", str(path)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _ask(process, path, started + _PATIENCE)
            return time.perf_counter() - started
        finally:
            process.terminate()
            process.wait()


def _ask(process: "subprocess.Popen[bytes]", path: Path, until: float) -> None:
    """Return when a ping is answered; that the database is being opened is no answer yet."""
    while not (_accepts(path) and _answers(path)):
        if process.poll() is not None or time.perf_counter() > until:
            raise RuntimeError(f"the daemon did not answer at {path}")
        time.sleep(_LOOKS_APART)


def _accepts(path: Path) -> bool:
    with Socket(AF_UNIX) as tried:
        return tried.connect_ex(str(path)) == 0


def _answers(path: Path) -> bool:
    with Raw(path) as raw:
        raw.socket.sendall(raw.frame("server.ping"))
        answer = raw.answer()
        return answer is not None and answer.error is None


def _forget(path: Path) -> None:
    """Have the system drop a file's pages from its cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # only what is on disk can be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


MEASURE: Final = Measure(
    name="start",
    about="from the start of the program to its first answer, stopped cleanly before",
    figures={
        _EMPTY: Unit.SECONDS,
        _LARGE: Unit.SECONDS,
        _COLD: Unit.SECONDS,
        _SIZE: Unit.BYTES,
    },
    goals=(
        Goal("start on a large database", _LARGE, bound=0.4),
        Goal("start on a large database, not in the page cache", _COLD),
        Goal("start on a large database, against an empty one", _LARGE, _EMPTY),
    ),
    prepared=_prepared,
)
