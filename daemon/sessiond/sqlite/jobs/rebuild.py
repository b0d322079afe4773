"""The job that has the search index made anew, and waits for it."""

import time
from typing import Any, Final

from sessiond.job import Job
from sessiond.sqlite.ask import value
from sessiond.sqlite.jobs.turns import refuse_unwritable
from sessiond.sqlite.store import Store
from sessiond_protocol.errors import Code, Failure

_LOOK_SECONDS: Final = 0.1
_MOST_LOOKS: Final = 600  # without any change
_WORDS_SHARE: Final = 0.7


def run(job: Job, store: Store) -> dict[str, Any]:
    """Have both indexes rebuilt by the writer's housekeeping, in its slices.

    The result: ``rebuilt``, the indexes (``messages_fts`` is left alone where it is another
    program's), and ``seconds``.
    """
    started = time.monotonic()
    refuse_unwritable(store)
    words = job.between_batches(store.rebuild_index)
    follow(job, store, words=words)
    rebuilt = ["messages_fts"] if words else []
    return {
        "rebuilt": [*rebuilt, "sessiond_cjk_fts"],
        "seconds": time.monotonic() - started,
    }


def follow(job: Job, store: Store, *, words: bool) -> None:
    """Wait until the pair index is whole, and with ``words`` the other one, too."""
    before: object = None
    looks = 0
    while True:
        reason, fraction, now = job.between_batches(lambda: _look(store, words=words))
        if not reason:
            return
        job.say("rebuilding the search index", fraction)
        looks = looks + 1 if now == before else 0
        before = now
        if looks > _MOST_LOOKS:
            raise Failure(Code.DATABASE, f"the rebuild of the search index is stuck: {reason}")
        job.pause(_LOOK_SECONDS)


def _look(store: Store, *, words: bool) -> tuple[str, float, object]:
    """Why it is not whole yet (empty: it is), how much is done, and what shows progress."""
    access = store.access
    index = store.health()["index"]
    progress = index["rebuild"] or {}
    cursor = access.meta.committed.cjk_cursor
    if words and access.health.words:
        reason = access.health.words
        fraction = _WORDS_SHARE * progress.get("done", 0) / max(progress.get("total", 0), 1)
    else:
        highest: int = value(store.connection, "SELECT max(id) FROM messages") or 0
        behind = "" if cursor >= highest else f"{highest - cursor} messages are not in it"
        reason = access.health.pairs or behind
        fraction = _WORDS_SHARE + (1 - _WORDS_SHARE) * min(cursor / max(highest, 1), 1.0)
    return reason, fraction, (reason, progress, cursor, index["rebuilds"])
