"""``sessionctl stats``."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from sessiond_client.cli import output, units
from sessiond_client.cli.connect import opened
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options


@click.command("stats")
@json_option
@place_options
@pass_asked
def command(asked: Asked, as_json: bool) -> None:
    """Print what the running daemon has counted since it started.

    Times are milliseconds; a percentile is the upper end of the bucket in which it lies.

    \b
    Examples:
      sessionctl stats
      sessionctl stats --json | jq .writer.commit_seconds.p99
    """
    with opened(asked, autostart=False) as db:
        stats = db.get_stats()
    if as_json:
        output.print_json(stats)
        return
    output.print_facts(facts(stats, time.time()))
    times = [time_row(name, each) for name, each in histograms(stats) if each["count"]]
    if times:
        click.echo()
        output.print_table(TIME_COLUMNS, times)


def facts(stats: Mapping[str, Any], now: float) -> list[tuple[str, str]]:
    """Counters and gauges by name."""
    writer = stats["writer"]
    requests = writer["requests"]
    up = max(now - stats["started"], 1e-9)
    return [
        ("up", units.duration(up)),
        ("holds", f"{units.plural(stats['sessions'], 'session')},"
                  f" {units.plural(stats['messages'], 'message')}"),
        ("writes", f"{units.count(stats['write_count'])} applied,"
                   f" {units.count(requests.get('failed', 0))} failed,"
                   f" {units.count(requests.get('refused', 0))} refused,"
                   f" {units.count(requests.get('replayed', 0))} answered again"),
        ("on average", f"{stats['write_count'] / up:,.1f} writes a second"),
        ("transactions", _batches(writer)),
        ("waiting", f"{units.plural(stats['inbox']['requests'], 'write')},"
                    f" {units.size(stats['inbox']['bytes'])}"),
        ("connections", f"{units.count(stats['connections'])} now,"
                        f" {units.count(stats['accepted'])} accepted,"
                        f" {units.count(stats['refused'])} refused"),
        ("most memory", units.size(stats["max_resident_bytes"])),
    ]  # fmt: skip


def _batches(writer: Mapping[str, Any]) -> str:
    sizes = writer["batch_size"]
    if not sizes["count"]:
        return "none"
    text = (
        f"{units.count(writer['batches'])}, on average {sizes['sum'] / sizes['count']:.1f} writes,"
        f" at most {units.count(sizes['max'])}"
    )
    again = writer["replayed_batches"]
    return f"{text}, {units.count(again)} run again" if again else text


def histograms(stats: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every histogram of times, with its name: of the writer, then of reads by method."""
    for name, value in stats["writer"].items():
        if name.endswith("_seconds") and _is_histogram(value):
            yield name.removesuffix("_seconds").replace("_", " "), value
    for name, value in stats["reads"].items():
        if _is_histogram(value):
            yield name, value


def _is_histogram(value: Any) -> bool:
    return isinstance(value, dict) and {"count", "sum", "max", "p50", "p99"} <= value.keys()


TIME_COLUMNS = (
    output.Column("TIME OF", flexible=True),
    output.Column("COUNT", right=True),
    output.Column("MEAN", right=True),
    output.Column("50 %", right=True),
    output.Column("99 %", right=True),
    output.Column("MOST", right=True),
)


def time_row(name: str, histogram: Mapping[str, Any]) -> tuple[str, ...]:
    """One histogram's line."""
    mean = histogram["sum"] / histogram["count"]
    values = (mean, histogram["p50"], histogram["p99"], histogram["max"])
    return (name, units.count(histogram["count"]), *map(units.milliseconds, values))
