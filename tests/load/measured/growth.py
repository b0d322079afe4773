"""Whether appends slow down as a database grows: a large one beside a small one of the same text.

The processor time that the daemon takes for a message is shown too: unlike the throughput it
does not depend on who else is at work on the machine.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from sessiond_client import SessionDB
from sessiond_client.bench.daemon import cpu_seconds
from sessiond_client.bench.store import Target
from tests.load.measured.goals import Goal, Measure, Round, Unit
from tests.load.measured.large import LENGTH, PARAGRAPHS, large
from tests.load.measured.site import Site
from tests.load.measured.writers import writing

_FEW: Final = 10_000
_SMALL: Final = "10,000 messages"
_LARGE: Final = "the large database"
_RATE: Final = "appends to"
_CPU: Final = "the daemon's processor time an append to"


@contextlib.contextmanager
def _prepared(site: Site) -> Iterator[Callable[[int], Round]]:
    large(site)
    with site.serving("large") as many:

        def measured(number: int) -> Round:
            # Made anew: with what the rounds append the small one would not stay small.
            with site.serving(f"small-{number}") as few:
                site.store(few, _FEW, LENGTH, PARAGRAPHS)
                ways = [(_SMALL, few), (_LARGE, many)]
                found: dict[str, float] = {}
                for name, target in ways if number % 2 == 0 else ways[::-1]:
                    found |= _appended(site, target, name, f"growth-{number}-")
            return found

        yield measured


def _appended(site: Site, target: Target, name: str, run: str) -> Round:
    with SessionDB(**target.arguments) as db:
        pid = db.get_stats()["pid"]
        stored, used = db.message_count(), cpu_seconds(pid)
        with writing(site, target, run, site.seconds) as done:
            pass
        stored = db.message_count() - stored
        now = cpu_seconds(pid)
    found = {f"{_RATE} {name}": done.rate}
    if used is not None and now is not None:
        found[f"{_CPU} {name}"] = (now - used) / stored
    return found


MEASURE: Final = Measure(
    name="growth",
    about="8 processes that pipeline appends, to a small and to a large database",
    figures={
        f"{_RATE} {_SMALL}": Unit.PER_SECOND,
        f"{_RATE} {_LARGE}": Unit.PER_SECOND,
        f"{_CPU} {_SMALL}": Unit.SECONDS,
        f"{_CPU} {_LARGE}": Unit.SECONDS,
    },
    goals=(
        Goal("appends to the large database, against 10,000 messages",
             f"{_RATE} {_LARGE}", f"{_RATE} {_SMALL}", 0.8, at_least=True),
        Goal("processor time an append, large against small",
             f"{_CPU} {_LARGE}", f"{_CPU} {_SMALL}"),
    ),
    prepared=_prepared,
)  # fmt: skip
