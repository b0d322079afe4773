"""The job that copies the database into a file elsewhere."""

import errno
import os
import time
from typing import Any, Final

import apsw

from sessiond.job import Job
from sessiond.sqlite import files
from sessiond.sqlite.ask import beating, rows, value
from sessiond.sqlite.backup import open_copy
from sessiond.sqlite.check import Kind, kind_of
from sessiond.sqlite.jobs.copying import STATE, Copied, check_room, copy_online, needed_bytes
from sessiond.sqlite.own_names import own_name, with_companions
from sessiond.sqlite.store import Store
from sessiond_protocol.errors import Code, Failure

_MOST_FINDINGS: Final = 100
_COPY_SHARE: Final = 0.8


def run(job: Job, store: Store, path: str) -> dict[str, Any]:
    """Copy, verify, sync, and only then give the file its name.

    The result: ``path``, ``bytes``, ``sessions``, ``messages``, ``seconds``, ``restarts`` (how
    often another program's commits had it begin again) and ``findings``, what is wrong with the
    search indexes in it.
    """
    started = time.monotonic()
    job.say("looking for room", 0.0)
    refuse_target(path, store.path)
    aside = _aside(path)
    try:
        files.discard(aside)
        check_room(needed_bytes(job, store), os.path.dirname(path), f"the backup {path}")
        copied = copy_online(
            job, store, aside, lambda step, done: job.say(step, done * _COPY_SHARE)
        )
        found = _verified(job, aside, copied)
        store.access.crash_point("job: verified")
        if os.path.lexists(path):
            raise _exists(path)
        os.rename(aside, path)
        store.access.crash_point("job: renamed")
        files.sync(os.path.dirname(path))
    except BaseException as error:
        files.discard_quietly(aside)
        if isinstance(error, apsw.Error | OSError):
            raise _failure(path, error) from error
        raise
    return {
        "path": path,
        "bytes": os.stat(path).st_size,
        **found,
        "seconds": time.monotonic() - started,
        "restarts": copied.restarts,
    }


def refuse_target(path: str, database: str) -> None:
    """Raise :class:`Failure` if a copy of the database must not be put there."""
    if not os.path.isabs(path) or "\0" in path or not os.path.basename(path):
        raise Failure(Code.INVALID_PARAMS, f"path must be the absolute one of a file, not {path!r}")
    if not os.path.isdir(folder := os.path.dirname(path)):
        raise Failure(Code.INVALID_PARAMS, f"directory {folder} does not exist")
    for name in (path, *with_companions(_aside(path))):  # the latter are removed before it begins
        if own_name(name, database) is not None:
            raise Failure(Code.INVALID_PARAMS, f"{name} is a file of the database itself")
    if os.path.lexists(path):
        raise _exists(path)
    for name in with_companions(path):
        if os.path.lexists(name):
            raise Failure(
                Code.CONFLICT, f"{name} exists and would be taken for a part of the backup"
            )


def _aside(path: str) -> str:
    return f"{path}.partial"


def _exists(path: str) -> Failure:
    return Failure(Code.CONFLICT, f"{path} exists, and a backup overwrites nothing")


def _failure(path: str, error: Exception) -> Failure:
    full = isinstance(error, apsw.FullError) or getattr(error, "errno", None) == errno.ENOSPC
    if full:
        return Failure(Code.DISK_FULL, f"there is no room for the backup {path}: {error}")
    return Failure(Code.DATABASE, f"the backup {path} cannot be written: {error}")


def _verified(job: Job, aside: str, copied: Copied) -> dict[str, Any]:
    """What the copy holds, from the copy itself; raises if it is not what was copied."""
    job.say("verifying", _COPY_SHARE)
    try:
        copy = open_copy(aside)
        try:
            with beating(copy, lambda: job.say("verifying", _COPY_SHARE)):
                state, found = _read(copy)
        finally:
            copy.close()
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise _damaged(str(error)) from error
    broken = [text for text in found["findings"] if kind_of(text) is Kind.FILE]
    if broken:
        raise _damaged(broken[0])
    if state != (copied.commits, copied.last_id):
        raise Failure(
            Code.DATABASE,
            f"the copy is not what was copied: it holds commit {state[0]} and message {state[1]},"
            f" not {copied.commits} and {copied.last_id}",
        )
    return found


def _read(copy: apsw.Connection) -> tuple[Any, dict[str, Any]]:
    answers = rows(copy, f"PRAGMA quick_check({_MOST_FINDINGS})")
    return rows(copy, STATE)[0], {
        "sessions": value(copy, "SELECT count(*) FROM sessions"),
        "messages": value(copy, "SELECT count(*) FROM messages"),
        "findings": [str(text) for (text,) in answers if text != "ok"],
    }


def _damaged(how: str) -> Failure:
    return Failure(
        Code.DATABASE,
        f"the copy is damaged, and the database may be, too: {how}; a check says more",
    )
