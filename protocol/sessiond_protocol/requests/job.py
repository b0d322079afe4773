"""Requests for long work on the database: each starts a job and answers its id at once."""

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from sessiond_protocol.requests.base import Count, Kind, Request

# The longest that ``job.status`` waits for a change, in seconds.
MOST_WAIT: Final = 10.0


Key = Annotated[bytes, msgspec.Meta(max_length=64)]


class JobState(msgspec.Struct, frozen=True):
    """How a job stands.

    ``step`` says in words what it does; ``fraction`` is how much of the job is done, nil where
    that is not known. ``started`` and ``ended`` are Unix seconds. ``error`` is the code and the
    message of one that failed. ``version`` rises whenever something here changed.
    """

    id: int
    kind: str
    state: Literal["running", "done", "failed"]
    step: str
    fraction: float | None
    started: float
    ended: float | None
    error: tuple[str, str] | None
    result: dict[str, Any] | None
    version: int


class JobStart(Request[int], frozen=True):
    """What starts a job has in common.

    ``key`` makes it safe to ask again after a lost connection: a job that was started under the
    same key is not started twice, its id is answered. ``NAMES_FILE`` is True for one that has
    the daemon read or write a file of the caller's choice: it is for root and for the daemon's
    own user alone, who could do so anyway.
    """

    KIND: ClassVar[Kind] = Kind.CONTROL
    NAMES_FILE: ClassVar[bool] = False
    key: Key = b""


class DatabaseBackup(JobStart, frozen=True, kw_only=True):
    """Copy the database, while it is in use, into a new file at this absolute path."""

    METHOD: ClassVar[str] = "database.backup"
    NAMES_FILE: ClassVar[bool] = True
    path: str


class DatabaseCheck(JobStart, frozen=True):
    """Look whether everything in the database is as it should be.

    A copy is looked at, which needs room beside the database; with ``now`` the file itself, and
    the write-ahead log grows until that is over. ``repair`` mends what can be made again.
    """

    METHOD: ClassVar[str] = "database.check"
    now: bool = False
    repair: bool = False


class DatabaseVacuum(JobStart, frozen=True):
    """Write the database anew without its free pages; nobody can write meanwhile."""

    METHOD: ClassVar[str] = "database.vacuum"


class DatabaseRestore(JobStart, frozen=True, kw_only=True):
    """Put a copy of the backup at this absolute path into the database's place.

    Nobody can write meanwhile. Then the database has a new generation, and every connection is
    closed: who comes back learns of it from hello.
    """

    METHOD: ClassVar[str] = "database.restore"
    NAMES_FILE: ClassVar[bool] = True
    path: str


class DatabaseCheckpoint(JobStart, frozen=True):
    """Move the write-ahead log into the database and empty it, if no reader holds it."""

    METHOD: ClassVar[str] = "database.checkpoint"


class IndexRebuild(JobStart, frozen=True):
    """Make the search index anew from the messages."""

    METHOD: ClassVar[str] = "index.rebuild"


class JobStatus(Request[JobState], frozen=True):
    """How a job stands, running or among the last that ended.

    While it runs and has no higher version than ``version``, the answer waits for a change, up
    to ``wait`` seconds and at most 10.
    """

    METHOD: ClassVar[str] = "job.status"
    KIND: ClassVar[Kind] = Kind.CONTROL
    job_id: int
    version: Count = 0
    wait: float = 0.0


class JobList(Request[list[JobState]], frozen=True):
    """The jobs that run and the last that ended, in the order they were started."""

    METHOD: ClassVar[str] = "job.list"
    KIND: ClassVar[Kind] = Kind.CONTROL
