"""The job that looks whether everything is as it should be, and mends what can be made again."""

import os
import time
from typing import Any, Final

import apsw

from sessiond.job import Job
from sessiond.sqlite import files, own_names
from sessiond.sqlite.ask import beating
from sessiond.sqlite.backup import open_copy
from sessiond.sqlite.check import DERIVED, Kind, Report, check, repair
from sessiond.sqlite.jobs.copying import check_room, copy_online, needed_bytes, open_snapshot
from sessiond.sqlite.jobs.rebuild import follow
from sessiond.sqlite.jobs.turns import look_again, own_transaction, patiently, refuse_unwritable
from sessiond.sqlite.store import Store

_COPY_SHARE: Final = 0.3
_INDEXES: Final = {Kind.INDEX, Kind.PAIRS, Kind.PAIR_INDEX}


def run(job: Job, store: Store, *, now: bool, mend: bool) -> dict[str, Any]:
    """Look at a copy, or with ``now`` at the file itself, as of this moment.

    The result: ``sound``, ``findings``, ``counts`` by kind, ``skipped``, ``repaired`` (kinds)
    and ``seconds``.
    """
    started = time.monotonic()
    report = _of_the_file(job, store) if now else _of_a_copy(job, store)
    repaired = _repaired(job, store, report) if mend else []
    return {
        "sound": report.sound,
        "findings": [
            {"kind": found.kind.value, "detail": found.detail} for found in report.findings
        ],
        "counts": {kind.value: count for kind, count in report.counts.items()},
        "skipped": report.skipped,
        "repaired": [kind.value for kind in repaired],
        "seconds": time.monotonic() - started,
    }


def _of_a_copy(job: Job, store: Store) -> Report:
    aside = own_names.checked(store.path)
    job.say("looking for room", 0.0)
    check_room(needed_bytes(job, store), os.path.dirname(store.path), "a check of a copy")
    try:
        files.discard(aside)
        copy_online(job, store, aside, lambda step, done: job.say(step, done * _COPY_SHARE))
        return _looked(job, open_copy(aside))
    finally:
        files.discard_quietly(aside)


def _of_the_file(job: Job, store: Store) -> Report:
    """On a snapshot: nobody waits for it, but the log cannot be emptied until it is over."""
    return _looked(job, open_snapshot(store.path))


def _looked(job: Job, connection: apsw.Connection) -> Report:
    try:
        with beating(connection, job.beat):
            return check(connection, lambda part: job.say(f"checking: {part}"))
    finally:
        connection.close()


def _repaired(job: Job, store: Store, report: Report) -> list[Kind]:
    if not report.counts.keys() & DERIVED:
        return []
    refuse_unwritable(store)
    job.say("repairing, others wait")

    def errand() -> list[Kind]:
        with own_transaction(job, store) as connection:
            try:
                return repair(connection, report, rebuild=False)
            finally:
                store.reload()

    kinds = patiently(job, store, errand)
    job.between_batches(lambda: look_again(store))
    if _INDEXES & set(kinds):
        follow(job, store, words=Kind.INDEX in kinds)
    return kinds
