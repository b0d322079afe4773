"""The 20 newest of 100,000 sessions, as a screen of conversations shows them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from sessiond_client import SessionDB
from tests.load.measured.bare import bare
from tests.load.measured.goals import Goal, Measure, Round, Unit
from tests.load.measured.site import Site, percentile, timed

_SESSIONS: Final = 100_000
_LENGTH: Final = 2
_LIMIT: Final = 20

_OURS: Final = "list, direct"
_DAEMON: Final = "list, through the daemon"
_BARE: Final = "ids of the newest by sqlite3"


@contextlib.contextmanager
def _prepared(site: Site) -> Iterator[Callable[[int], Round]]:
    with site.serving("list") as target:
        site.store(target, _SESSIONS * _LENGTH, _LENGTH)
        with (
            SessionDB(**target.arguments | {"reads": "direct"}) as direct,
            SessionDB(**target.arguments | {"reads": "daemon"}) as asking,
            bare(target.database) as program,
        ):

            def measured(number: int) -> Round:
                taken: dict[str, list[float]] = {}
                ways = [(_OURS, direct), (_DAEMON, asking)]
                for name, db in ways if number % 2 == 0 else ways[::-1]:
                    taken[name] = timed(_listing(db), site.seconds)
                taken[_BARE] = [seconds for _, seconds in program.ask([None] * 200)]
                return {
                    f"{name}, {which}": percentile(found, which)
                    for name, found in taken.items()
                    for which in ("p50", "p99")
                }

            yield measured


def _listing(db: SessionDB) -> Callable[[int], object]:
    def list_sessions(_number: int) -> object:
        rows = db.list_sessions_rich(limit=_LIMIT)
        if len(rows) != _LIMIT:
            raise RuntimeError(f"{len(rows)} sessions were listed, not {_LIMIT}")
        return rows

    return list_sessions


MEASURE: Final = Measure(
    name="list",
    about="the 20 newest of 100,000 sessions",
    figures={
        f"{name}, {which}": Unit.SECONDS
        for name in (_OURS, _DAEMON, _BARE)
        for which in ("p50", "p99")
    },
    goals=(
        Goal("list of 20 among 100,000 sessions, p50", f"{_OURS}, p50", bound=0.005),
        Goal("the same through the daemon, p50", f"{_DAEMON}, p50", bound=0.005),
    ),
    prepared=_prepared,
)
