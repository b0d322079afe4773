"""What beside throughput has a goal, each beside its alternative in the same run, interleaved.

``python -m tests.load.measures`` measures in rounds; whatever is compared is compared inside a
round, so that what slows the machine down for a while slows both sides. Printed are the median
and the spread over the rounds, the goal, and whether the median reaches it.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sessiond_client.cli import output, units
from tests.load import fairness
from tests.load.compare import machine
from tests.load.measured import (
    growth,
    importing,
    listing,
    memory,
    reads,
    search,
    start,
    statistics_asked,
)
from tests.load.measured.goals import (
    FIGURE_COLUMNS,
    GOAL_COLUMNS,
    Measure,
    Measured,
    figure_rows,
    goal_rows,
)
from tests.load.measured.site import Site
from tests.load.programs import ROOT
from tests.support.corpus import paragraphs

_PARAGRAPHS: Final = 5000
_ROUNDS, _ROUNDS_QUICK = 5, 3
_SECONDS, _SECONDS_QUICK = 1.0, 0.5

# Start comes last: the large database that growth has made is there by then, and written to.
MEASURES: Final[dict[str, Measure]] = {
    each.MEASURE.name: each.MEASURE
    for each in (
        importing,
        reads,
        search,
        listing,
        statistics_asked,
        fairness,
        memory,
        growth,
        start,
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if something could not be measured."""
    chosen = _parse(arguments)
    wanted = [MEASURES[name] for name in chosen.only or MEASURES]
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="measures-", dir=chosen.folder) as folder:
        _leave_the_user_alone(folder)
        text = paragraphs(1, _PARAGRAPHS)
        site = Site(Path(folder), text, chosen.seconds, chosen.quick, _say)
        found = [measure(each, site, chosen.rounds) for each in wanted]
    if chosen.json:
        json.dump({"machine": machine(), "measures": [_plain(each) for each in found]}, sys.stdout)
        print()
    else:
        _print(chosen, found)
    return int(any(each.failed for each in found))


def measure(wanted: Measure, site: Site, rounds: int) -> Measured:
    """One measure's rounds; what goes wrong is kept and ends it, not the others."""
    found = Measured(wanted)
    _say(f"{wanted.name}: {wanted.about}")
    try:
        with wanted.prepared(site) as measured:
            for number in range(rounds):
                with _told(f"{wanted.name}: round {number + 1} of {rounds}"):
                    found.rounds.append(measured(number))
    except Exception as error:  # noqa: BLE001 (one measure must not cost the others' results)
        found.failed = f"{type(error).__name__}: {error}"
    return found


def _print(chosen: argparse.Namespace, found: Sequence[Measured]) -> None:
    here = machine()
    print(f"{here['cores']} cores, {here['machine']}, {here['system']}, load {here['load']:.1f}")
    print(f"{units.plural(chosen.rounds, 'round')}, {chosen.seconds:g} s for each thing in a round")
    if chosen.quick:
        print("smaller databases than the goals speak of: a first look, not the measurement")
    print()
    output.print_table(FIGURE_COLUMNS, [row for each in found for row in figure_rows(each)])
    print()
    output.print_table(GOAL_COLUMNS, [row for each in found for row in goal_rows(each)])
    for each in found:
        if each.failed:
            print(f"not measured to the end: {each.measure.name}: {each.failed}")


def _plain(found: Measured) -> dict[str, Any]:
    measure = found.measure
    goals = [
        {
            "name": goal.name,
            "unit": measure.unit(goal).value,
            "bound": goal.bound,
            "at_least": goal.at_least,
            "values": [goal.of(figures) for figures in found.rounds],
        }
        for goal in measure.goals
    ]
    return {
        "name": measure.name,
        "about": measure.about,
        "units": {name: unit.value for name, unit in measure.figures.items()},
        "rounds": found.rounds,
        "goals": goals,
        "failed": found.failed,
    }


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    _say(f"{what} took {time.monotonic() - started:.1f} s")


def _leave_the_user_alone(folder: str) -> None:
    """Programs started from here read and write nothing of the user's own."""
    for name in [name for name in os.environ if "SESSIOND" in name]:
        del os.environ[name]
    os.environ["HOME"] = folder
    # An installed package is compiled once; without this every start might compile it again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = os.path.join(folder, "compiled")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load.measures", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=list(MEASURES), metavar="NAME", help="this alone")
    add("--rounds", type=int, help=f"default {_ROUNDS}, {_ROUNDS_QUICK} with --quick")
    add("--seconds", type=float, help=f"default {_SECONDS:g}, {_SECONDS_QUICK:g} with --quick")
    add("--folder", type=Path, default=ROOT / "build" / "bench", help="the disk to measure on")
    add("--quick", action="store_true", help="smaller databases, fewer and shorter rounds")
    add("--json", action="store_true", help="print every round")
    chosen = parser.parse_args(arguments)
    if chosen.rounds is None:
        chosen.rounds = _ROUNDS_QUICK if chosen.quick else _ROUNDS
    if chosen.seconds is None:
        chosen.seconds = _SECONDS_QUICK if chosen.quick else _SECONDS
    return chosen


if __name__ == "__main__":
    sys.exit(main())
