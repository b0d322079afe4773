"""Becoming the one program that may change a database file as its daemon does."""

import random
import time

from sessiond.sqlite.guard import Guard, Held
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State, StateFile


class AlreadyServed(Exception):
    """Another daemon serves this database."""

    exit_status = 75  # EX_TEMPFAIL


def take_daemon_lock(guard: Guard, patience: float) -> None:
    """Take the daemon's lock on the guard's file; raises :class:`AlreadyServed`.

    A daemon that serves is named at once; one that starts or leaves is waited for, ``patience``
    seconds. Raises :class:`OpenRefused` for a file that cannot be opened or has several names.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            guard.take_daemon_lock()
        except Held as held:
            other = state_file.read(paths.state_file(guard.path))
            if (other is not None and other.state is State.SERVING) or (
                time.monotonic() > deadline
            ):
                raise AlreadyServed(_describe(guard.path, other)) from held
        except OSError as error:
            raise OpenRefused(
                Reason.NO_ACCESS, f"{guard.path} cannot be opened: {error.strerror}"
            ) from error
        else:
            return
        time.sleep(random.uniform(0.01, 0.05))


def _describe(path: str, other: StateFile | None) -> str:
    if other is None:
        return f"another daemon holds {path}"
    where = f" on {other.socket}" if other.socket else ""
    return f"{path} is already served by sessiond, pid {other.pid}{where} ({other.state})"
