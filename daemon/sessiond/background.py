"""Going to the background: the starter waits until the daemon serves, or says why it does not."""

import os
import select
import sys
from typing import Final

READY: Final = b"ready"


class Background:
    """The two ends of a daemon's start in the background.

    Comes before any thread, lock or descriptor of the database exists: a fork copies none of
    them. In the starter :meth:`fork` returns the exit status; in the daemon it returns None.
    """

    def __init__(self) -> None:
        self._report = -1

    def fork(self, patience: float) -> int | None:
        """Split in two. The daemon has its own session, no terminal and no open standard files."""
        listen, report = os.pipe()
        child = os.fork()
        if child:
            os.close(report)
            return _await_report(listen, child, patience)
        os.close(listen)
        self._report = report
        os.setsid()
        os.chdir("/")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        if nowhere > 2:
            os.close(nowhere)
        return None

    def ready(self) -> None:
        """Let the starter go."""
        if self._report >= 0:
            os.write(self._report, READY)
            os.close(self._report)
            self._report = -1


def _await_report(listen: int, child: int, patience: float) -> int:
    """Zero once the daemon serves; its exit status if it ended first."""
    with os.fdopen(listen, "rb", buffering=0) as pipe:
        readable, _, _ = select.select([pipe], [], [], patience)
        if readable and pipe.read(len(READY)) == READY:
            return 0
    if not readable:
        sys.stderr.write(f"sessiond: not ready after {patience:g} s, still starting\n")
        return os.EX_TEMPFAIL
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
