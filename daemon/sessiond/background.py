"""Going to the background: the starter waits until the daemon serves, or says why it does not."""

import contextlib
import logging
import os
import select
import sys
from typing import Final

READY: Final = b"ready"


class Background:
    """The two ends of a daemon's start in the background.

    Comes before any thread, lock or descriptor of the database exists: a fork copies none of
    them. In the starter :meth:`fork` returns the exit status; in the daemon it returns None.
    From :meth:`ready` on, what the daemon writes to standard error goes to ``output``, if given.
    """

    def __init__(self, output: str | None = None) -> None:
        self._output = output
        self._report = -1
        self._shown = logging.StreamHandler()
        self._shown.setLevel(logging.ERROR)
        self._shown.setFormatter(logging.Formatter("sessiond: %(message)s"))

    def fork(self, patience: float) -> int | None:
        """Split in two. The daemon has its own session and no terminal.

        It keeps the starter's standard error until it is ready, so that whoever started it
        reads why it fails.
        """
        listen, report = os.pipe()
        child = os.fork()
        if child:
            os.close(report)
            return _await_report(listen, child, patience)
        os.close(listen)
        self._report = report
        os.setsid()
        os.chdir("/")
        _lead(os.devnull, os.O_RDWR, 0, 1)
        return None

    def show_errors(self) -> None:
        """Until it is ready, show errors to the starter as well as in the log that was begun."""
        if self._report >= 0 and self._output is not None:  # else the log goes there anyway
            logging.getLogger().addHandler(self._shown)

    def ready(self) -> None:
        """Let the starter go."""
        if self._report < 0:
            return
        with contextlib.suppress(BrokenPipeError):  # the starter has waited long enough
            os.write(self._report, READY)
        os.close(self._report)
        self._report = -1
        logging.getLogger().removeHandler(self._shown)
        try:
            _lead(self._output or os.devnull, os.O_WRONLY | os.O_APPEND, 2)
        except OSError:
            _lead(os.devnull, os.O_WRONLY, 2)


def _lead(path: str, flags: int, *descriptors: int) -> None:
    """Have standard descriptors lead to a file."""
    opened = os.open(path, flags)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    if opened > 2:
        os.close(opened)


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
