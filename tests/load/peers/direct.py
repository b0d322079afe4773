"""Peer *direct*: every process has its own connection and fights for the lock; agents do it so.

Each operation is a transaction of its own: ``BEGIN IMMEDIATE``, and a random pause before the
next try when another process holds the lock. Standard library ``sqlite3``, write-ahead log,
``synchronous=FULL``, the plain schema with its triggers.
"""

import contextlib
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sessiond_client.bench.operations import (
    ListSessions,
    Mix,
    Operation,
    ReadTranscript,
    Search,
    worker_sessions,
)
from tests.load.peers.common import (
    Peer,
    Settings,
    always_one_at_a_time,
    main,
    standard_library_versions,
)
from tests.load.peers.plain import ADD_SESSION, Statements, build

# SQLite's own waiting first, then a pause that differs between the processes: the usual remedy
# against "database is locked".
_BUSY_SECONDS: Final = 1.0
_SHORTEST_PAUSE: Final = 0.020
_LONGEST_PAUSE: Final = 0.150
_GIVE_UP_SECONDS: Final = 30.0

_READS: Final = (ReadTranscript, ListSessions, Search)


def connect(database: Path) -> sqlite3.Connection:
    """A connection as durable as the other peers'; any thread may use it."""
    connection = sqlite3.connect(
        database, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def begin(connection: sqlite3.Connection) -> None:
    """Take the write lock; sqlite3.OperationalError when it was not to be had for 30 s."""
    give_up = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as exc:
            # The primary result code is the low byte.
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(random.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE))
        else:
            return


def in_transaction(connection: sqlite3.Connection, work: Callable[[], None]) -> None:
    """Do the work in one transaction, all or nothing."""
    begin(connection)
    try:
        work()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def add_sessions(connection: sqlite3.Connection, worker: int) -> None:
    """Make sure that the worker's sessions exist."""
    now = time.time()
    rows = [(session, now) for session in worker_sessions(worker)]
    in_transaction(connection, lambda: connection.executemany(ADD_SESSION, rows).close())


class DirectStore:
    """One process's connection."""

    def __init__(self, database: Path, worker: int) -> None:
        self._connection = connect(database)
        self._statements = Statements(self._connection)
        add_sessions(self._connection, worker)

    def perform(self, operation: Operation) -> None:
        """One operation, durable when this returns."""
        if isinstance(operation, _READS):
            self._statements.run(operation)
        else:
            in_transaction(self._connection, lambda: self._statements.run(operation))

    def close(self) -> None:
        """Close the connection; the last one to close checkpoints."""
        self._connection.close()


def prepare(settings: Settings, text: Sequence[str]) -> None:
    """Make the file, with what is stored before the work."""
    with contextlib.closing(connect(settings.database)) as connection:
        build(connection, settings.stored, settings.session_length, text)


PEER: Final = Peer(
    name="direct",
    mixes=frozenset(Mix),
    missing="it does everything",
    prepare=prepare,
    open_store=DirectStore,
    loop_for=always_one_at_a_time,
    versions=standard_library_versions,
)

if __name__ == "__main__":
    sys.exit(main(PEER))
