"""How soon a daemon says how it is while others write at full speed."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from sessiond_client import SessionDB
from tests.load.measured.goals import Goal, Measure, Round, Unit
from tests.load.measured.site import Site, percentile, timed
from tests.load.measured.writers import writing

# As somebody who watches would, or several: not as one who adds to the load.
_ASKED_EVERY: Final = 0.02

_IDLE: Final = "statistics, idle"
_BUSY: Final = "statistics, beside the writers"
_APPENDS: Final = "appends of the writers"


@contextlib.contextmanager
def _prepared(site: Site) -> Iterator[Callable[[int], Round]]:
    with site.serving("statistics") as target, SessionDB(**target.arguments) as db:

        def measured(number: int) -> Round:
            idle = timed(lambda _: db.get_stats(), site.seconds, _ASKED_EVERY)
            with writing(site, target, f"round-{number}-", site.seconds) as done:
                busy = timed(lambda _: db.get_stats(), site.seconds, _ASKED_EVERY)
            return {
                f"{_IDLE}, p99": percentile(idle, "p99"),
                f"{_BUSY}, p50": percentile(busy, "p50"),
                f"{_BUSY}, p99": percentile(busy, "p99"),
                f"{_APPENDS}, p50": done.latency("p50"),
                f"{_APPENDS}, p99": done.latency("p99"),
            }

        yield measured


MEASURE: Final = Measure(
    name="statistics",
    about="server.stats beside 8 processes that pipeline appends",
    figures=dict.fromkeys(
        (
            f"{_IDLE}, p99",
            f"{_BUSY}, p50",
            f"{_BUSY}, p99",
            f"{_APPENDS}, p50",
            f"{_APPENDS}, p99",
        ),
        Unit.SECONDS,
    ),
    goals=(Goal("statistics, p99 of an append's p99", f"{_BUSY}, p99", f"{_APPENDS}, p99", 3),),
    prepared=_prepared,
)
