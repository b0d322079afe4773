"""Peer *raw*: what SQLite itself can do. One process, one connection, no sockets.

500 messages per transaction on the plain schema with its triggers, through ``apsw`` with the
SQLite it brings; write-ahead log, ``synchronous=FULL``. It uses one process whatever
``--processes`` says. Its reads are single queries, the search without anything that a store adds.
"""

import contextlib
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import apsw

from sessiond_client.bench.loops import one_at_a_time
from sessiond_client.bench.operations import READS, Mix, Operation, worker_sessions
from sessiond_client.bench.workers import Loop
from tests.load.peers.common import Peer, Settings, main
from tests.load.peers.loops import in_groups
from tests.load.peers.plain import ADD_SESSION, BARE_SEARCH, Statements, build

MESSAGES_PER_TRANSACTION: Final = 500


def connect(database: Path) -> apsw.Connection:
    """A connection as durable as the other peers'."""
    connection = apsw.Connection(str(database))
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


class RawStore:
    """One connection whose transactions span many operations."""

    def __init__(self, database: Path, worker: int) -> None:
        self._connection = connect(database)
        self._statements = Statements(self._connection, BARE_SEARCH)
        now = time.time()
        rows = [(session, now) for session in worker_sessions(worker)]
        self._connection.executemany(ADD_SESSION, rows)

    def begin(self) -> None:
        """Open the transaction."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make everything since ``begin`` durable."""
        self._connection.execute("COMMIT")

    def perform(self, operation: Operation) -> None:
        """One operation; a write waits for ``commit``."""
        self._statements.run(operation)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def prepare(settings: Settings, text: Sequence[str]) -> None:
    """Make the file, with what is stored before the work."""
    with contextlib.closing(connect(settings.database)) as connection:
        build(connection, settings.stored, settings.session_length, text)


def loop_for(settings: Settings) -> Loop:
    """Groups for writes; a read is answered by itself."""
    if settings.mix in READS:
        return one_at_a_time
    return partial(in_groups, MESSAGES_PER_TRANSACTION)


def versions() -> dict[str, str]:
    """apsw's own version and its SQLite's."""
    return {"apsw": apsw.apsw_version(), "sqlite": apsw.sqlite_lib_version()}


PEER: Final = Peer(
    name="raw",
    mixes=frozenset(Mix),
    missing="it does everything",
    prepare=prepare,
    open_store=RawStore,
    loop_for=loop_for,
    one_process=True,
    versions=versions,
)

if __name__ == "__main__":
    sys.exit(main(PEER))
