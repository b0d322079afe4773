"""Reading the file itself, read-only, through the standard library's ``sqlite3``.

The file is opened with ``mode=ro`` and nothing else: a read-write connection "just to read" may
delete the log of a daemon that lives, and ``immutable=1`` reads torn pages. A read never leaves
a statement open, so that no reader pins the write-ahead log.
"""

import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from sessiond_client import _errors as errors
from sessiond_client import _fork
from sessiond_client._clock import clock
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import SearchMessages

if TYPE_CHECKING:
    from sessiond_protocol.queries.dispatch import Reader

# Virtual machine steps of SQLite between two looks at the clock: about a millisecond.
_STEPS_BETWEEN_LOOKS = 20_000

Seat: TypeAlias = "tuple[tuple[int, int], sqlite3.Connection, Reader]"

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


def _always() -> bool:
    return True


class IndexDamaged(Exception):
    """A search found an index corrupt. The daemon answers it all the same, and mends the index."""


class DirectReader:
    """A small pool of read-only connections to one file; any thread may read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._begin()

    def _begin(self) -> None:
        self._era = _fork.era
        self._lock = threading.Lock()
        self._idle: list[Seat] = []

    def read(
        self, request: Request[Any], deadline: float, wanted: Callable[[], bool] = _always
    ) -> Any:
        """The raw result of a read; ``deadline`` is on the client's clock.

        A long read ends early once ``wanted()`` is false. Raises what the read through the
        daemon would raise, and :class:`IndexDamaged`: then read through the daemon.
        """
        seat = self._take()
        try:
            seat[1].set_progress_handler(
                lambda: clock() > deadline or not wanted(), _STEPS_BETWEEN_LOOKS
            )
            result = seat[2].answer(request)
        except sqlite3.Error as error:
            seat[1].close()
            if isinstance(request, SearchMessages) and _is_corrupt(error):
                raise IndexDamaged from error
            if "interrupted" in str(error):
                late = f"{request.METHOD} took longer than allowed"
                raise errors.Timeout(late) from error
            raise errors.DatabaseError(f"{self._path}: {error}") from error
        except BaseException as error:
            seat[1].close()
            if isinstance(error, ValueError):
                raise errors.InvalidParams(str(error)) from error
            raise
        with self._lock:
            self._idle.append(seat)
        return result

    def _take(self) -> Seat:
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise errors.DatabaseError(f"cannot read {self._path}: {error.strerror}") from error
        identity = (status.st_dev, status.st_ino)
        with self._lock:
            while self._idle:
                seat = self._idle.pop()
                if seat[0] == identity:
                    return seat
                seat[1].close()  # the path leads to another file now
        return self._open(identity)

    def _open(self, identity: tuple[int, int]) -> Seat:
        # The queries are not for programs that only write, or read through the daemon.
        from sessiond_protocol.queries.dispatch import Reader

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
        try:
            connection.execute("PRAGMA query_only = ON").fetchall()
        except sqlite3.Error as error:
            connection.close()
            raise errors.DatabaseError(f"cannot open {self._path}: {error}") from error
        return identity, connection, Reader(connection)

    def can_open(self) -> bool:
        """Whether the file can be read from here at all."""
        try:
            seat = self._take()
        except errors.DatabaseError:
            return False
        try:
            seat[1].execute("SELECT 1 FROM schema_version").fetchall()
        except sqlite3.Error:
            seat[1].close()
            return False
        with self._lock:
            self._idle.append(seat)
        return True

    def close(self) -> None:
        """Close what is idle."""
        if self._era != _fork.era:
            self.leave_to_parent()
            return
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection, _ in idle:
            connection.close()

    def leave_to_parent(self) -> None:
        """In a forked child: keep the parent's connections from ever being closed here."""
        _inherited.extend(connection for _, connection, _ in self._idle)
        self._begin()


def _is_corrupt(error: sqlite3.Error) -> bool:
    """Whether SQLite found the file, or an index in it, damaged; extended codes included."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


class Way(Enum):
    """How a read is answered."""

    DAEMON = auto()
    FILE = auto()
    UNSURE = auto()  # not known before a daemon has opened the file: see DirectReads.look


class DirectReads:
    """Decides whether a read goes to the file itself, and has the connections for it."""

    def __init__(self, path: str) -> None:
        self.reader = DirectReader(path)
        self._works: bool | None = None
        self._searches: bool | None = None

    def way(self, reads: str, request: Request[Any]) -> Way:
        """How a read is answered, as far as that is known without I/O."""
        if reads == "daemon" or (reads == "auto" and second_library_loaded()):
            return Way.DAEMON
        if self._works is None:
            return Way.UNSURE
        if isinstance(request, SearchMessages):
            if self._searches is None:
                return Way.UNSURE
            if not self._searches:
                return Way.DAEMON
        return Way.FILE if self._works or reads == "direct" else Way.DAEMON

    def look(self, request: Request[Any]) -> None:
        """Find out what :meth:`way` was unsure of; a daemon has opened the file by now."""
        if self._works is None:
            self._works = self.reader.can_open()
        if isinstance(request, SearchMessages) and self._searches is None:
            self._searches = has_fts5()
