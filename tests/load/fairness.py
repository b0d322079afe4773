"""Does one client's bulk import starve another's single appends?

The daemon fills a batch round-robin over its connections, so that a lone append waits for the
batch that is being committed and for its own, not for all that the importer has on its way.
First come, first served it would wait as long as the importer's own appends do.
``python -m tests.load.measures --only fairness`` measures it.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from sessiond_client import SessionDB
from sessiond_client.bench.store import Target
from tests.load.measured.goals import Goal, Measure, Round, Unit
from tests.load.measured.site import Site, percentile, timed
from tests.load.measured.writers import end
from tests.load.programs import ROOT
from tests.support.corpus import paragraphs

_IN_FLIGHT: Final = 4000
# The import is well under way before single appends are measured beside it, and outlasts them.
_AHEAD: Final = 0.5
_LONGER: Final = 0.5

_ALONE: Final = "single appends alone"
_BESIDE: Final = "single appends beside an import"
_IMPORT: Final = "the import's appends"
_RATE: Final = "messages of the import"


@contextlib.contextmanager
def _prepared(site: Site) -> Iterator[Callable[[int], Round]]:
    with site.serving("fairness") as target, SessionDB(**target.arguments) as db:
        db.create_session("single", "fairness")
        db.create_session("bulk", "fairness")
        yield lambda _number: _round(site, target, db)


def _round(site: Site, target: Target, db: SessionDB) -> Round:
    def append(number: int) -> None:
        db.append_message("single", "user", site.text[number % len(site.text)])

    alone = timed(append, site.seconds)
    words = (target.database, target.socket, site.seconds + _AHEAD + _LONGER)
    importer = subprocess.Popen(
        [sys.executable, "-m", "tests.load.fairness", *map(str, words)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert importer.stdout is not None
        importer.stdout.readline()
        beside = timed(append, site.seconds)
        said, _ = importer.communicate()
    finally:
        end(importer)
    imported = json.loads(said)
    found = {
        f"{name}, {which}": percentile(taken, which)
        for name, taken in ((_ALONE, alone), (_BESIDE, beside), (_IMPORT, imported["taken"]))
        for which in ("p50", "p99")
    }
    return found | {_RATE: len(imported["taken"]) / imported["seconds"]}


def import_in_bulk(database: str, socket: str, seconds: float) -> None:
    """Keep thousands of appends on their way; says when they are, and what each took."""
    texts = paragraphs(2, 200)
    taken: list[float] = []
    with SessionDB(database, socket=socket, autostart=False, timeout=60) as db:
        waiting = deque((db.append_message_nowait("bulk", "user", text), time.perf_counter())
                        for text in texts * (_IN_FLIGHT // len(texts)))  # fmt: skip
        started = time.perf_counter()
        told = False
        while (now := time.perf_counter()) < started + seconds:
            if not told and now > started + _AHEAD:
                told = True
                print("importing", flush=True)
            appended, at = waiting.popleft()
            appended.result()
            now = time.perf_counter()
            taken.append(now - at)
            text = texts[len(taken) % len(texts)]
            waiting.append((db.append_message_nowait("bulk", "user", text), now))
        passed = time.perf_counter() - started
    print(json.dumps({"taken": taken, "seconds": passed}))


MEASURE: Final = Measure(
    name="fairness",
    about="single appends of one client beside another's bulk import, 4,000 on their way",
    figures={
        **{
            f"{name}, {which}": Unit.SECONDS
            for name in (_ALONE, _BESIDE, _IMPORT)
            for which in ("p50", "p99")
        },
        _RATE: Unit.PER_SECOND,
    },
    goals=(
        Goal("single append beside an import, p50 of the import's",
             f"{_BESIDE}, p50", f"{_IMPORT}, p50", 0.5),
        Goal("single append beside an import, p99 of the import's",
             f"{_BESIDE}, p99", f"{_IMPORT}, p99", 1),
    ),
    prepared=_prepared,
)  # fmt: skip


if __name__ == "__main__":
    import_in_bulk(sys.argv[1], sys.argv[2], float(sys.argv[3]))
