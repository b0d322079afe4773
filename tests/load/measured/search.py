"""Searching 100,000 messages beside the bare query of the index, word by word."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Final

from sessiond_client import SessionDB
from sessiond_client.bench.operations import Mix, Search, Work, operations
from tests.load.measured.bare import Bare, bare
from tests.load.measured.goals import Goal, Measure, Round, Unit
from tests.load.measured.site import Site, percentile

_MESSAGES: Final = 100_000
_LENGTH: Final = 200
_LIMIT: Final = 20
# So many words by one, then by the others: a disturbance meets them all.
_TOGETHER: Final = 10

_OURS: Final = "search, direct"
_DAEMON: Final = "search, through the daemon"
_BARE: Final = "bare query of the index"
_MORE: Final = "what a search adds to the bare query"


@contextlib.contextmanager
def _prepared(site: Site) -> Iterator[Callable[[int], Round]]:
    with site.serving("search") as target:
        site.store(target, _MESSAGES, _LENGTH)
        with (
            SessionDB(**target.arguments | {"reads": "direct"}) as direct,
            SessionDB(**target.arguments | {"reads": "daemon"}) as asking,
            bare(target.database) as program,
        ):
            words = _words(site)
            _same_rows(direct, program, list(itertools.islice(words, 20)))
            yield lambda number: _round(site, number, words, direct, asking, program)


def _words(site: Site) -> Iterator[str]:
    for operation in operations(Mix.SEARCH, Work(1, 0, site.text, ())):
        assert isinstance(operation, Search)
        yield operation.word


def _same_rows(db: SessionDB, program: Bare, words: list[str]) -> None:
    """Both answer with the same messages: else one of them does another's work."""
    for word, (ids, _) in zip(words, program.ask(words), strict=True):
        found = [row["id"] for row in db.search_messages(word, limit=_LIMIT)]
        if set(found) != set(ids):
            raise RuntimeError(f"{word!r} finds {found}, the bare query {ids}")


def _round(
    site: Site,
    number: int,
    words: Iterator[str],
    direct: SessionDB,
    asking: SessionDB,
    program: Bare,
) -> Round:
    ways: dict[str, Callable[[list[str]], list[float]]] = {
        _OURS: lambda words: _searched(direct, words),
        _DAEMON: lambda words: _searched(asking, words),
        _BARE: lambda words: [seconds for _, seconds in program.ask(words)],
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + site.seconds * len(ways)
    for turn in itertools.count(number):
        if time.perf_counter() > end:
            break
        part = list(itertools.islice(words, _TOGETHER))
        for name in list(ways) if turn % 2 == 0 else reversed(list(ways)):
            taken[name] += ways[name](part)
    more = sorted(ours - bare for ours, bare in zip(taken[_OURS], taken[_BARE], strict=True))
    return {
        **{f"{name}, p50": percentile(found, "p50") for name, found in taken.items()},
        f"{_OURS}, p99": percentile(taken[_OURS], "p99"),
        f"{_BARE}, p99": percentile(taken[_BARE], "p99"),
        f"{_MORE}, p50": more[len(more) // 2],
    }


def _searched(db: SessionDB, words: list[str]) -> list[float]:
    taken = []
    for word in words:
        started = time.perf_counter()
        db.search_messages(word, limit=_LIMIT)
        taken.append(time.perf_counter() - started)
    return taken


MEASURE: Final = Measure(
    name="search",
    about="the 20 best of 100,000 messages, beside the bare query of the index by sqlite3",
    figures={
        f"{_OURS}, p50": Unit.SECONDS,
        f"{_OURS}, p99": Unit.SECONDS,
        f"{_DAEMON}, p50": Unit.SECONDS,
        f"{_BARE}, p50": Unit.SECONDS,
        f"{_BARE}, p99": Unit.SECONDS,
        f"{_MORE}, p50": Unit.SECONDS,
    },
    goals=(
        Goal("search, p50 of the bare query's", f"{_OURS}, p50", f"{_BARE}, p50", 1.2),
        Goal("search through the daemon, p50 of the bare query's",
             f"{_DAEMON}, p50", f"{_BARE}, p50"),
    ),
    prepared=_prepared,
)  # fmt: skip
