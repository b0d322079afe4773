"""Another program on the same database: a process of its own with the standard library's SQLite.

One database is never opened with two SQLite libraries in one process, so tests that hold it
with ``apsw`` send everybody else here.
"""

import subprocess
import sys
from pathlib import Path
from types import TracebackType

_PRELUDE = """
import fcntl, os, sqlite3, sys
path = sys.argv[1]

def connect(**options):
    return sqlite3.connect(path, timeout=5, isolation_level=None, **options)

def pause():
    print("paused", flush=True)
    sys.stdin.readline()
"""

HOLD_LOCK = "c = connect(); c.execute('BEGIN IMMEDIATE'); pause(); c.close()"

TIMEOUT = 10


class Foreign:
    """A running program whose ``pause()`` waits for :meth:`go_on`."""

    def __init__(self, program: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PRELUDE + program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_for_pause(self) -> None:
        """Return when it has arrived at ``pause()``."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "paused\n"

    def go_on(self) -> None:
        """Let it leave ``pause()``."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def finish(self) -> str:
        """Let it run to its end; what it printed since the last pause."""
        out, _ = self._process.communicate("\n", timeout=TIMEOUT)
        assert self._process.returncode == 0
        return out.strip()

    def __enter__(self) -> "Foreign":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def run(program: str, path: Path) -> str:
    """What a program prints that runs to its end."""
    with Foreign(program, path) as foreign:
        return foreign.finish()
