"""Long work in the daemon: started with one request, followed with requests that wait there."""

import os
from collections.abc import Callable
from typing import Any, Final

import msgspec

from sessiond_client import _errors as errors
from sessiond_client._requests import Dict, Plan
from sessiond_protocol.requests import job

Progress = Callable[[Dict], object]

_KEY_BYTES: Final = 16


def backup(path: str | os.PathLike[str], progress: Progress | None) -> Plan[Dict]:
    return (yield from _followed(job.DatabaseBackup(path=_absolute(path), key=_key()), progress))


def check(now: bool, repair: bool, progress: Progress | None) -> Plan[Dict]:
    start = job.DatabaseCheck(now=now, repair=repair, key=_key())
    return (yield from _followed(start, progress))


def vacuum(progress: Progress | None) -> Plan[Dict]:
    return (yield from _followed(job.DatabaseVacuum(key=_key()), progress))


def restore(path: str | os.PathLike[str], progress: Progress | None) -> Plan[Dict]:
    return (yield from _followed(job.DatabaseRestore(path=_absolute(path), key=_key()), progress))


def checkpoint() -> Plan[Dict]:
    return (yield from _followed(job.DatabaseCheckpoint(key=_key()), None))


def rebuild_index(progress: Progress | None) -> Plan[Dict]:
    return (yield from _followed(job.IndexRebuild(key=_key()), progress))


def _followed(start: job.JobStart, progress: Progress | None) -> Plan[Dict]:
    """Start a job and wait until it has ended; its result, or the error it ended with."""
    job_id: int = yield start
    version = 0
    while True:
        try:
            state: job.JobState = yield job.JobStatus(
                job_id=job_id, version=version, wait=job.MOST_WAIT
            )
        except errors.NotFound as gone:
            raise errors.ShuttingDown(
                f"the daemon ended while {start.METHOD} was under way, and with it job {job_id}:"
                " look whether it was done before starting it again"
            ) from gone
        version = state.version
        if progress is not None:
            progress(msgspec.structs.asdict(state))
        if state.state == "failed":
            code, message = state.error or ("internal", f"job {job_id} failed")
            raise errors.from_wire((code, message, {"job_id": job_id}))
        if state.state == "done":
            result: dict[str, Any] = state.result or {}
            return result


def _key() -> bytes:
    return os.urandom(_KEY_BYTES)


def _absolute(path: str | os.PathLike[str]) -> str:
    """A path that means the same to the daemon, which has a working directory of its own."""
    given = os.fspath(path)
    if not isinstance(given, str) or not given or "\0" in given:
        raise ValueError(f"path must be text that is not empty and has no NUL, not {given!r}")
    found = os.path.abspath(given)
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"path must be UTF-8, {given!r} is not") from error
    return found
