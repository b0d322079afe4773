"""A guard and a write connection as the daemon has them, in this process."""

import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite.guard import Guard


class Daemon:
    """A guard and a write connection as the daemon has them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path.with_name(f"{path.name}-wal")
        self.shared_memory = path.with_name(f"{path.name}-shm")
        self.guard = Guard(str(path))
        self.guard.take_daemon_lock()
        self.connection = apsw.Connection(str(path))
        self.connection.set_busy_timeout(0)
        self.connection.execute("PRAGMA journal_mode=WAL").fetchall()
        self.connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        self.connection.execute("CREATE TABLE t (a)")

    def write(self, times: int = 1) -> None:
        for _ in range(times):
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("INSERT INTO t VALUES (zeroblob(5000))")
            self.connection.execute("COMMIT")

    def count(self) -> int:
        found: int = self.connection.execute("SELECT count(*) FROM t").get
        return found

    def lose_posix_locks(self) -> None:
        """What any code in the process does that opens and closes these files."""
        for path in (self.path, self.log, self.shared_memory):
            os.close(os.open(path, os.O_RDONLY))

    def close(self) -> None:
        self.connection.close()
        release(self.guard)


def release(guard: Guard) -> None:
    """What the end of the process does."""
    for descriptor in (guard._database, guard._shared_memory, guard._fallback):
        if descriptor >= 0:
            os.close(descriptor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def unguarded(path: Path) -> Iterator[Daemon]:
    daemon = Daemon(path)
    yield daemon
    daemon.close()


@pytest.fixture
def daemon(unguarded: Daemon) -> Daemon:
    unguarded.guard.protect()
    return unguarded
