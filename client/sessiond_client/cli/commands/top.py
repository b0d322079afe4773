"""``sessionctl top``."""

import dataclasses
import itertools
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from sessiond_client import SessionDB
from sessiond_client._errors import OperationalError
from sessiond_client.cli import exits, output, rates, rates_view
from sessiond_client.cli.connect import ask, opened
from sessiond_client.cli.keys import quit_within, single_keys
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options
from sessiond_client.cli.rates import Snapshot
from sessiond_protocol.requests.server import ServerStats

# A page that stands still longer than this says why.
ANSWER_SECONDS: Final = 2.0
LINES_UNDER_A_HEADING: Final = 20
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0}


class Span(click.ParamType[float]):
    """A span in seconds, or with a unit."""

    name = "span"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|min|)", str(value).strip())
        seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
        if not 0.1 <= seconds <= 3600:
            self.fail(
                f"{value!r} is not a span of 100ms to 60min; allowed are 2, 0.5s, 500ms, 1min",
                param,
                ctx,
            )
        return seconds


@click.command("top")
@click.option("--interval", "-i", "seconds", type=Span(), default="1s", show_default=True,
              metavar="SPAN", help="How long one look takes: 2, 500ms, 1min.")  # fmt: skip
@click.option("--count", "-n", type=click.IntRange(min=1), metavar="N",
              help="Print N lines and end, instead of a page that is drawn anew.")  # fmt: skip
@json_option
@place_options
@pass_asked
def command(asked: Asked, seconds: float, count: int | None, as_json: bool) -> int:
    """Watch what the daemon does.

    Rates are of the last interval. Latencies are milliseconds; a percentile is the upper end of
    the bucket in which it lies. Reads that programs do on the file themselves pass the daemon
    by. In a pipe there is a line per interval, with --json an object. q or Ctrl-C ends it.

    \b
    Examples:
      sessionctl top
      sessionctl top --interval 5s --count 12
      sessionctl top --json | jq .commit.p99
    """
    live = output.redraws(sys.stdout) and count is None and not as_json
    if live:
        asked = dataclasses.replace(asked, timeout=min(asked.timeout, ANSWER_SECONDS))
    try:
        with opened(asked, autostart=False) as db:
            if live:
                show_page(db, seconds)
            else:
                print_lines(db, seconds, count, as_json=as_json)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    return 0


def snapshot(db: SessionDB) -> Snapshot:
    """The daemon's statistics as of now; counts nothing in the database, unlike ``get_stats``."""
    stats = ask(db, ServerStats())
    return Snapshot(stats, time.monotonic())


def print_lines(db: SessionDB, seconds: float, count: int | None, *, as_json: bool) -> None:
    """A line per interval, or an object."""
    before = snapshot(db)
    due = before.at
    for number in itertools.count() if count is None else range(count):
        due += seconds
        time.sleep(max(0.0, due - time.monotonic()))
        after = snapshot(db)
        found = rates.between(before, after)
        if as_json:
            told = {"time": time.time(), "pid": after.stats["pid"], **dataclasses.asdict(found)}
            sys.stdout.write(output.json_text(told, sys.stdout) + "\n")
        else:
            again = output.is_terminal() and number % LINES_UNDER_A_HEADING == 0
            if again or number == 0:
                click.echo(rates_view.HEADING)
            click.echo(rates_view.line(found, time.strftime("%H:%M:%S")))
        sys.stdout.flush()
        before = after


def show_page(db: SessionDB, seconds: float) -> None:
    """A page that is drawn anew with each interval, until q is pressed."""
    from rich.live import Live

    views = _views(db)
    # Drawn once before the terminal is taken over: a refusal is to be read.
    first = next(views)
    with (
        single_keys(),
        Live(first, console=output.console(), screen=True, auto_refresh=False) as live,
    ):
        while not quit_within(seconds):
            live.update(next(views), refresh=True)


def _views(db: SessionDB) -> Iterator[Any]:
    """The page as of now, each time; the last one, with the reason, while no daemon answers."""
    last = snapshot(db)
    found = rates.between(None, last)
    yield rates_view.page(last.stats, found, time.time())
    while True:
        trouble = ""
        try:
            now = snapshot(db)
            found, last = rates.between(last, now), now
        except OperationalError as error:
            if not error.retryable:
                raise
            trouble = output.one_line(error.message)
        yield rates_view.page(last.stats, found, time.time(), trouble)
