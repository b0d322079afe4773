"""Reading the file itself, read-only, through the standard library's ``sqlite3``.

The file is opened with ``mode=ro`` and nothing else: a read-write connection "just to read" may
delete the log of a daemon that lives, and ``immutable=1`` reads torn pages. A read never leaves
a statement open, so that no reader pins the write-ahead log.
"""

import os
import sqlite3
import sys
import threading
from typing import Any
from urllib.parse import quote

from sessiond_client import _errors as errors
from sessiond_client._clock import clock
from sessiond_protocol.queries.dispatch import Reader
from sessiond_protocol.requests import Request

# Virtual machine steps of SQLite between two looks at the clock: about a millisecond.
_STEPS_BETWEEN_LOOKS = 20_000

# Connections that a fork copied. Closing one in the child would drop the locks of every
# connection of the process to that file, so they are kept until the process ends.
_inherited: list[sqlite3.Connection] = []


def has_fts5() -> bool:
    """Whether this Python's SQLite can search."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE probe USING fts5(text)")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def second_library_loaded() -> bool:
    """Whether another SQLite lives in this process: two on one file break each other's locks."""
    return "apsw" in sys.modules or "pysqlite3" in sys.modules


class DirectReader:
    """A small pool of read-only connections to one file; any thread may read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[tuple[tuple[int, int], sqlite3.Connection, Reader]] = []
        self._pid = os.getpid()

    def read(self, request: Request[Any], deadline: float) -> Any:
        """The raw result of a read; ``deadline`` is on the client's clock.

        Raises what the read through the daemon would raise.
        """
        seat = self._take()
        try:
            seat[1].set_progress_handler(
                lambda: clock() > deadline, _STEPS_BETWEEN_LOOKS
            )
            result = seat[2].answer(request)
        except sqlite3.Error as error:
            seat[1].close()
            if "interrupted" in str(error):
                late = f"{request.METHOD} took longer than allowed"
                raise errors.Timeout(late) from error
            raise errors.DatabaseError(f"{self._path}: {error}") from error
        except BaseException:
            seat[1].close()
            raise
        with self._lock:
            self._idle.append(seat)
        return result

    def _take(self) -> tuple[tuple[int, int], sqlite3.Connection, Reader]:
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise errors.DatabaseError(f"cannot read {self._path}: {error.strerror}") from error
        identity = (status.st_dev, status.st_ino)
        with self._lock:
            if self._pid != os.getpid():
                _inherited.extend(connection for _, connection, _ in self._idle)
                self._idle.clear()
                self._pid = os.getpid()
            while self._idle:
                seat = self._idle.pop()
                if seat[0] == identity:
                    return seat
                seat[1].close()  # the path leads to another file now
        return self._open(identity)

    def _open(
        self, identity: tuple[int, int]
    ) -> tuple[tuple[int, int], sqlite3.Connection, Reader]:
        try:
            connection = sqlite3.connect(
                f"file:{quote(self._path)}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=1.0,
            )
        except sqlite3.Error as error:
            raise errors.DatabaseError(f"cannot open {self._path}: {error}") from error
        connection.execute("PRAGMA query_only = ON").fetchall()
        return identity, connection, Reader(connection)

    def can_open(self) -> bool:
        """Whether the file can be read from here at all."""
        try:
            seat = self._take()
            seat[1].execute("SELECT 1 FROM schema_version").fetchall()
        except (errors.DatabaseError, sqlite3.Error):
            return False
        with self._lock:
            self._idle.append(seat)
        return True

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
            if self._pid != os.getpid():
                _inherited.extend(connection for _, connection, _ in idle)
                return
        for _, connection, _ in idle:
            connection.close()
