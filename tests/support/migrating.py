"""Migrating files in tests: connections that get closed, and processes that get killed."""

import itertools
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from sessiond.sqlite.migrations import COLUMNS_ADDED, migrate, plan
from sessiond.sqlite.opening import open_database

Hook = Callable[[str], None]


class Opener:
    """Opens write connections to one file; closes them all at the end of its block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections: list[apsw.Connection] = []

    def __call__(self) -> apsw.Connection:
        """A further write connection."""
        self._connections.append(open_database(self._path))
        return self._connections[-1]

    def __enter__(self) -> "Opener":
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()


def run(connection: apsw.Connection) -> list[str]:
    """Plan and migrate; the names of the steps."""
    wanted = plan(connection)
    migrate(connection, wanted)
    return list(wanted.steps)


def base_part(contents: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The rows cut down to the columns of version 1, which every version has."""
    added = {name.split(".")[1] for names in COLUMNS_ADDED.values() for name in names}
    return {
        table: [{name: row[name] for name in row if name not in added} for row in found]
        for table, found in contents.items()
    }


def fork() -> int:
    """``os.fork`` for a child that does little and leaves by ``os._exit`` or a signal.

    Python warns of forking beside threads, as a test runner's own may be: the child takes no
    lock of theirs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def killed_at(number: int, act: Callable[[Hook], object]) -> bool:
    """Act in a process that is killed at the hook of that number; False if it was not reached."""
    child = fork()
    if child == 0:
        try:
            seen = itertools.count()

            def hook(_name: str) -> None:
                if next(seen) == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            act(hook)
            os._exit(0)
        except BaseException:  # noqa: BLE001 (the child must not return into the test)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL
