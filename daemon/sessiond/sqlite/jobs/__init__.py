"""What each kind of job does with the database. One module per kind.

A job's code runs on a thread of its own. Whatever touches the write connection goes through
``job.between_batches``; it may read files and other connections as it likes.
"""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

import apsw

from sessiond.job import Job, JobWork, Result
from sessiond.sqlite.jobs import checkpoint
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests.job import (
    DatabaseCheckpoint,
    JobStart,
)

if TYPE_CHECKING:
    from sessiond.sqlite.store import Store


def job_work(store: "Store", request: JobStart) -> JobWork:
    """What a request for long work does."""
    match request:
        case DatabaseCheckpoint():
            return _work("checkpoint", lambda job: checkpoint.run(job, store))
    raise Failure(Code.UNKNOWN_METHOD, f"{request.METHOD} is not known here")


def _work(kind: str, run: Callable[[Job], Result], *, exclusive: bool = False) -> JobWork:
    def told(job: Job) -> Result:
        try:
            return run(job)
        except (apsw.Error, OSError) as error:
            raise _failure(error) from error

    return JobWork(kind, told, exclusive)


def _failure(error: Exception) -> Failure:
    """What people are told of an error that the job's code has no better words for."""
    full = isinstance(error, apsw.FullError) or getattr(error, "errno", None) == errno.ENOSPC
    if full:
        return Failure(Code.DISK_FULL, f"no room is left: {error}")
    return Failure(Code.DATABASE, str(error))
