"""What each kind of job does with the database. One module per kind.

A job's code runs on a thread of its own. Whatever touches the write connection goes through
``job.between_batches``; it may read files and other connections as it likes.
"""

import errno
from collections.abc import Callable

import apsw

from sessiond.job import Job, JobWork, Result
from sessiond.sqlite.jobs import backup, check, checkpoint, rebuild, restore, vacuum
from sessiond.sqlite.store import Store
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests.job import (
    DatabaseBackup,
    DatabaseCheck,
    DatabaseCheckpoint,
    DatabaseRestore,
    DatabaseVacuum,
    IndexRebuild,
    JobStart,
)


def job_work(store: Store, request: JobStart) -> JobWork:
    """What a request for long work does."""
    match request:
        case DatabaseBackup(path=path):
            return _work("backup", lambda job: backup.run(job, store, path))
        case DatabaseCheck(now=now, repair=mend):
            return _work("check", lambda job: check.run(job, store, now=now, mend=mend))
        case DatabaseVacuum():
            return _work("vacuum", lambda job: vacuum.run(job, store), exclusive=True)
        case DatabaseCheckpoint():
            return _work("checkpoint", lambda job: checkpoint.run(job, store))
        case DatabaseRestore(path=path):
            return _work("restore", lambda job: restore.run(job, store, path), exclusive=True)
        case IndexRebuild():
            return _work("rebuild", lambda job: rebuild.run(job, store))
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
