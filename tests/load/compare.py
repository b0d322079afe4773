"""``make bench``: the daemon and its peers in the same run, interleaved, and how they compare.

Every program runs from nothing in each round, one after the other, on the same disk, with the
same text, for the same time. A ratio is taken inside each round, so that what slows the machine
down for a while slows both sides; printed are its median and its spread over the rounds.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from sessiond_client.cli import output, units
from tests.load.contests import ENTRIES, FLOOR, QUICK, RATIOS, SHORT, USUAL, Ratio
from tests.load.programs import ROOT, Ground, Missing, Result
from tests.load.slow_disk import NoCompiler, slow_disk
from tests.support.corpus import paragraphs

BASELINE: Final = Path(__file__).with_name("baseline.json")
_PARAGRAPHS: Final = 5000
# How much worse than the baseline a ratio may be before it counts as missed.
_TOLERATED: Final = 1 / 3

Rounds = list[dict[str, Result]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; 1 if a ratio misses the baseline that was asked for."""
    chosen = _parse(arguments)
    names = chosen.names
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="compare-", dir=chosen.folder) as folder:
        text = Path(folder) / "text.json"
        text.write_text(json.dumps(paragraphs(1, _PARAGRAPHS)), encoding="utf-8")
        try:
            slow = slow_disk(Path(folder), chosen.sync_ms) if chosen.sync_ms else {}
        except NoCompiler as error:
            sys.exit(str(error))
        paths = tuple(chosen.path)
        ground = Ground(Path(folder), text, chosen.seconds, chosen.warm_up, paths, slow)
        rounds, missing = compare(ground, names, chosen.rounds, _say)
    if chosen.json:
        json.dump({"machine": machine(), "rounds": rounds, "missing": missing}, sys.stdout)
        return 0
    for line in machine_lines(chosen, rounds):
        print(line)
    print()
    output.print_table(_RUN_COLUMNS, run_rows(rounds))
    print()
    output.print_table(_RATIO_COLUMNS, ratio_rows(rounds))
    for name, why in missing.items():
        print(f"left out: {name}: {why}")
    if chosen.baseline:
        BASELINE.write_text(json.dumps(_medians(rounds), indent=2) + "\n", encoding="utf-8")
    return _check(rounds) if chosen.names is SHORT else 0


def compare(
    ground: Ground, names: Iterable[str], count: int, say: Callable[[str], None]
) -> tuple[Rounds, dict[str, str]]:
    """Results by name for each round, and what could not be run and why."""
    rounds: Rounds = []
    missing: dict[str, str] = {}
    wanted = list(names)
    for number in range(count):
        # Every second round goes backwards: nobody always runs on the disk the other left.
        order = wanted if number % 2 == 0 else wanted[::-1]
        results: dict[str, Result] = {}
        for name in order:
            if name in missing:
                continue
            say(f"round {number + 1} of {count}: {name}")
            try:
                results[name] = ground.run(ENTRIES[name])
            except Missing as why:
                missing[name] = str(why)
        rounds.append(results)
    return rounds, missing


# --- what came of it -----------------------------------------------------------------------


def values(ratio: Ratio, rounds: Rounds) -> list[float]:
    """A ratio in every round that has it."""
    return [value for results in rounds if (value := ratio.of(results)) is not None]


def ratio_rows(rounds: Rounds) -> list[tuple[str, ...]]:
    """Median, spread, and what is to be reached, of every ratio that was measured."""
    rows: list[tuple[str, ...]] = []
    for ratio in RATIOS:
        found = values(ratio, rounds)
        if found:
            median = statistics.median(found)
            spread = f"{number(min(found))} to {number(max(found))}"
            reached = "" if ratio.bound is None else "yes" if ratio.reached(median) else "no"
            rows.append((ratio.name, number(median), spread, ratio.goal, reached))
    return rows


def run_rows(rounds: Rounds) -> list[tuple[str, ...]]:
    """Throughput and latencies of every program, the median of each figure over the rounds."""
    return [_run_row(name, [r[name] for r in rounds if name in r]) for name in _names(rounds)]


def _names(rounds: Rounds) -> list[str]:
    return [name for name in ENTRIES if any(name in results for results in rounds)]


def _run_row(name: str, results: list[Result]) -> tuple[str, ...]:
    def median(figure: Callable[[Result], float]) -> float:
        return statistics.median(map(figure, results))

    def latency(name: str) -> str:
        return units.milliseconds(median(lambda each: each["latency_ms"][name]) / 1000)

    failed = sum(result["failed"] for result in results)
    rate = units.count(median(lambda each: each["messages_per_second"]))
    return (name, rate, *map(latency, _LATENCIES), str(failed or ""))


def number(value: float) -> str:
    """A ratio with as many digits as mean something."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


_LATENCIES: Final = ("p50", "p99", "p99.9", "max")
_RUN_COLUMNS: Final = (
    output.Column("PROGRAM"),
    output.Column("MESSAGES/S", right=True),
    *(output.Column(name.upper(), right=True) for name in _LATENCIES),
    output.Column("FAILED", right=True),
)
_RATIO_COLUMNS: Final = (
    output.Column("RATIO"),
    output.Column("MEDIAN", right=True),
    output.Column("SPREAD", right=True),
    output.Column("WANTED", right=True),
    output.Column("REACHED", right=True),
)


def machine() -> dict[str, Any]:
    """What the figures depend on beside the programs."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "load": os.getloadavg()[0],
    }


def machine_lines(chosen: argparse.Namespace, rounds: Rounds) -> list[str]:
    """The machine, the versions, and how long each run was."""
    here = machine()
    versions: dict[str, str] = {}
    for results in rounds:
        for result in results.values():
            versions |= {f"{result['peer']}'s {k}": v for k, v in result["versions"].items()}
    return [
        f"{here['cores']} cores, {here['machine']}, {here['system']}, load {here['load']:.1f}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"{units.plural(chosen.rounds, 'round')} of {chosen.seconds:g} s after"
        f" {chosen.warm_up:g} s of warm-up"
        + (f", each sync {chosen.sync_ms:g} ms longer" if chosen.sync_ms else ""),
    ]


# --- the baseline --------------------------------------------------------------------------


def _medians(rounds: Rounds) -> dict[str, float]:
    return {
        ratio.name: round(statistics.median(found), 4)
        for ratio in RATIOS
        if (found := values(ratio, rounds))
    }


def missed(measured: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """The ratios that are worse than their baseline by more than a third, for people."""
    complaints = []
    for ratio in RATIOS:
        if ratio.name not in measured or ratio.name not in baseline:
            continue
        now, then = measured[ratio.name], baseline[ratio.name]
        worse = now < then * (1 - _TOLERATED) if ratio.at_least else now > then * (1 + _TOLERATED)
        if worse:
            complaints.append(f"{ratio.name}: {number(now)}, the baseline is {number(then)}")
    return complaints


def _check(rounds: Rounds) -> int:
    baseline: dict[str, float] = json.loads(BASELINE.read_text(encoding="utf-8"))
    complaints = missed(_medians(rounds), baseline)
    for complaint in complaints:
        print(f"missed by more than a third: {complaint}")
    return 1 if complaints else 0


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load.compare", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=4.0)
    add("--warm-up", type=float, default=0.5, metavar="SECONDS")
    add("--folder", type=Path, default=ROOT / "build" / "bench", help="the disk to measure on")
    add(
        "--sync-ms",
        type=float,
        default=0.0,
        metavar="MS",
        help="as on a disk whose syncs take so much longer (needs a C compiler)",
    )
    add("--path", type=Path, action="append", default=[], help="where hermes-agent is installed")
    which = parser.add_mutually_exclusive_group()
    for option, names, text in _CHOICES:
        which.add_argument(option, dest="names", action="store_const", const=names, help=text)
    parser.set_defaults(names=USUAL)
    add("--baseline", action="store_true", help="write the ratios as the new baseline")
    add("--json", action="store_true", help="print every result")
    return parser.parse_args(arguments)


_CHOICES: Final = (
    ("--quick", QUICK, "the daemon beside direct only"),
    ("--floor", FLOOR, "the rungs from a sketch of the design to the daemon, see contests.py"),
    ("--check", SHORT, "a short comparison; 1 if it misses the baseline"),
)


if __name__ == "__main__":
    sys.exit(main())
