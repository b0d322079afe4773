"""The job that empties the write-ahead log."""

from collections.abc import Sequence
from typing import Any

from sessiond.job import Job
from sessiond.sqlite.file_locks import describe
from sessiond.sqlite.store import Store
from sessiond_protocol.errors import Code, Failure


def run(job: Job, store: Store) -> dict[str, Any]:
    """Move the log into the database and empty it.

    The result: ``busy``, ``log`` and ``checkpointed`` (pages) as SQLite reports them, and
    ``held_by``, who reads through the log if that was in the way.
    """
    job.say("emptying the write-ahead log, others wait")
    checkpoints = store.checkpoints
    last = job.between_batches(checkpoints.truncate)
    if checkpoints.failure is not None:
        raise Failure(Code.DATABASE, f"checkpoint failed: {checkpoints.failure}")
    return {
        "busy": last.busy,
        "log": last.log,
        "checkpointed": last.checkpointed,
        "held_by": _names(checkpoints.holders()) if last.busy else [],
    }


def _names(holders: Sequence[object]) -> list[str]:
    return [describe(each) if isinstance(each, int) else str(each) for each in holders]
