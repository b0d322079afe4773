"""Reading transcripts while others write at full speed: from the file, and through the daemon.

Eight writers and a reader have to share the processor, whatever they do. What that alone costs
is shown by the same reading from a second database that nobody writes. A reader that reads without
a pause uses up its share of the processors and then waits; one that reads now and then has not.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

from sessiond_client import SessionDB
from sessiond_client.bench.operations import prefilled_sessions
from sessiond_client.bench.store import Target
from tests.load.measured.goals import Goal, Measure, Round, Unit
from tests.load.measured.site import Site, percentile, timed
from tests.load.measured.writers import writing

_MESSAGES: Final = 10_000
_LENGTH: Final = 200
_SESSIONS: Final = prefilled_sessions(_MESSAGES, _LENGTH)

_IDLE: Final = "direct, idle"
_DAEMON_IDLE: Final = "through the daemon, idle"
_BUSY: Final = "direct, beside the writers"
_ELSEWHERE: Final = "direct, another file beside the writers"
_DAEMON_BUSY: Final = "through the daemon, beside the writers"
_NOW_AND_THEN: Final = "direct, now and then, idle"
_NOW_AND_THEN_BUSY: Final = "direct, now and then, beside the writers"
_WAYS: Final = (
    _IDLE,
    _DAEMON_IDLE,
    _NOW_AND_THEN,
    _BUSY,
    _ELSEWHERE,
    _DAEMON_BUSY,
    _NOW_AND_THEN_BUSY,
)
_PAUSES: Final = {_NOW_AND_THEN: 0.02, _NOW_AND_THEN_BUSY: 0.02}  # seconds between two reads
_RATE: Final = "appends of the writers"

_Read = Callable[[int], object]


@contextlib.contextmanager
def _prepared(site: Site) -> Iterator[Callable[[int], Round]]:
    with site.serving("written") as written, site.serving("still") as still:
        for target in (written, still):
            site.store(target, _MESSAGES, _LENGTH)
        with (
            SessionDB(**_way(written, "direct")) as direct,
            SessionDB(**_way(written, "daemon")) as asking,
            SessionDB(**_way(still, "direct")) as elsewhere,
        ):

            def measured(number: int) -> Round:
                return _round(site, written, number, [_reading(db) for db in (direct, asking)],
                              _reading(elsewhere))  # fmt: skip

            yield measured


def _way(target: Target, reads: str) -> dict[str, Any]:
    return target.arguments | {"reads": reads}


def _reading(db: SessionDB) -> _Read:
    def read(number: int) -> object:
        messages = db.get_messages(_SESSIONS[number % len(_SESSIONS)])
        if len(messages) != _LENGTH:
            raise RuntimeError(f"{len(messages)} messages were read where {_LENGTH} are stored")
        return messages

    return read


def _round(
    site: Site, written: Target, number: int, reading: list[_Read], elsewhere: _Read
) -> Round:
    direct, asking = reading
    idle = {_IDLE: direct, _DAEMON_IDLE: asking, _NOW_AND_THEN: direct}
    busy = {
        _BUSY: direct,
        _ELSEWHERE: elsewhere,
        _DAEMON_BUSY: asking,
        _NOW_AND_THEN_BUSY: direct,
    }
    taken: dict[str, list[float]] = {}
    for name in _order(list(idle), number):
        taken[name] = timed(idle[name], site.seconds, _PAUSES.get(name, 0.0))
    with writing(site, written, f"round-{number}-", site.seconds * len(busy)) as done:
        for name in _order(list(busy), number):
            taken[name] = timed(busy[name], site.seconds, _PAUSES.get(name, 0.0))
    found = {
        f"{name}, {which}": percentile(taken[name], which)
        for name, which in itertools.product(taken, ("p50", "p99"))
    }
    return found | {_RATE: done.rate}


def _order(names: list[str], number: int) -> list[str]:
    return names if number % 2 == 0 else names[::-1]


MEASURE: Final = Measure(
    name="reads",
    about="a transcript of 200 messages, idle and beside 8 processes that pipeline appends",
    figures={
        **{
            f"{name}, {which}": Unit.SECONDS
            for name, which in itertools.product(_WAYS, ("p50", "p99"))
        },
        _RATE: Unit.PER_SECOND,
    },
    goals=(
        Goal("transcript beside writers, p99 of idle", f"{_BUSY}, p99", f"{_IDLE}, p99", 2),
        Goal("transcript beside writers, p99 of another file's",
             f"{_BUSY}, p99", f"{_ELSEWHERE}, p99"),
        Goal("transcript beside writers, p50 of idle", f"{_BUSY}, p50", f"{_IDLE}, p50"),
        Goal("transcript now and then beside writers, p99 of idle",
             f"{_NOW_AND_THEN_BUSY}, p99", f"{_NOW_AND_THEN}, p99"),
        Goal("transcript through the daemon, p50 of direct, both idle",
             f"{_DAEMON_IDLE}, p50", f"{_IDLE}, p50", 3),
        Goal("transcript through the daemon, p50 of direct, beside writers",
             f"{_DAEMON_BUSY}, p50", f"{_BUSY}, p50", 3),
    ),
    prepared=_prepared,
)  # fmt: skip
