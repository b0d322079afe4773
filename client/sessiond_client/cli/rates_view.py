"""A daemon's rates for people: lines that line up, or a page that is drawn anew."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from sessiond_client.cli import output, units
from sessiond_client.cli.commands.status import user_name
from sessiond_client.cli.rates import Rates, Spread
from sessiond_protocol.health import troubles

if TYPE_CHECKING:
    from rich.console import RenderableType

UNKNOWN: Final = "-"
_LETTERS: Final = ("B", "K", "M", "G", "T")


def short_size(amount: float | None) -> str:
    """Bytes in at most five characters: ``512B``, ``4.1K``, ``64M``."""
    if amount is None:
        return UNKNOWN
    letter = _LETTERS[0]
    for letter in _LETTERS:
        if amount < 1000 or letter == _LETTERS[-1]:
            break
        amount /= 1024
    digits = 1 if letter != _LETTERS[0] and amount < 10 else 0
    return f"{amount:.{digits}f}{letter}"


def short_milliseconds(seconds: float | None) -> str:
    """A latency in milliseconds without its unit, in at most five characters."""
    if seconds is None:
        return UNKNOWN
    return units.milliseconds(seconds).removesuffix(" ms").replace(",", "")


def short_count(number: float | None) -> str:
    """A rate: with one digit after the point below ten."""
    if number is None:
        return UNKNOWN
    return f"{number:.1f}" if 0 < number < 9.95 else f"{number:.0f}"


def short_share(share: float | None) -> str:
    """``12%`` of one processor."""
    return UNKNOWN if share is None else f"{100 * share:.0f}%"


# Heading, width, value: together 80 columns with the blanks between them.
_COLUMNS: Final[tuple[tuple[str, int, Callable[[Rates], str]], ...]] = (
    ("WRITES/S", 8, lambda rates: short_count(rates.writes_per_second)),
    ("READS/S", 7, lambda rates: short_count(rates.reads_per_second)),
    ("BATCH/S", 7, lambda rates: short_count(rates.batches_per_second)),
    ("SIZE", 4, lambda rates: short_count(rates.batch_size.mean)),
    ("COMMIT", 6, lambda rates: short_milliseconds(rates.commit.p50)),
    ("99%", 5, lambda rates: short_milliseconds(rates.commit.p99)),
    ("QUEUE", 5, lambda rates: short_milliseconds(rates.queue.p50)),
    ("99%", 5, lambda rates: short_milliseconds(rates.queue.p99)),
    ("LOG", 5, lambda rates: short_size(rates.log_bytes)),
    ("MEM", 5, lambda rates: short_size(rates.resident_bytes)),
    ("CPU", 4, lambda rates: short_share(rates.cpu)),
)
HEADING: Final = " ".join(["TIME    ", *(heading.rjust(width) for heading, width, _ in _COLUMNS)])


def line(rates: Rates, at: str) -> str:
    """One interval under ``HEADING``; times are milliseconds. ``at`` is the time of day."""
    return " ".join([at.ljust(8), *(value(rates).rjust(width) for _, width, value in _COLUMNS)])


def facts(stats: Mapping[str, Any], rates: Rates, now: float) -> list[tuple[str, str]]:
    """The page above the table of clients."""
    size = rates.batch_size
    batches = f"{short_count(rates.batches_per_second)} batches /s"
    if size.mean is not None and size.p99 is not None:
        batches += f" of {size.mean:.1f} (99 % up to {units.count(size.p99)})"
    memory = UNKNOWN if rates.resident_bytes is None else units.size(rates.resident_bytes)
    log = UNKNOWN if rates.log_bytes is None else units.size(rates.log_bytes)
    return [
        ("daemon", f"sessiond {stats['version']}, pid {stats['pid']}, {stats['state']}"
                   f" for {units.duration(now - stats['started'])}"),
        ("database", output.one_line(str(stats["database"]))),
        ("writes", f"{_rate(rates.writes_per_second)} in {batches}, {rates.writes_waiting} waiting"
                   + (f", {_rate(rates.failures_per_second)} failed"
                      if rates.failures_per_second else "")),
        ("reads", f"{_rate(rates.reads_per_second)}, {rates.reads_waiting} waiting"),
        ("commit", _spread(rates.commit)),
        ("queue", _spread(rates.queue)),
        ("log", log),
        ("memory", f"{memory}, processor {short_share(rates.cpu)}"),
        *(("job", job(each)) for each in rates.jobs),
        ("health", "; ".join(troubles(stats)) or "good"),
    ]  # fmt: skip


def _rate(number: float | None) -> str:
    return f"{UNKNOWN if number is None else units.count(number)} /s"


def _spread(times: Spread) -> str:
    if times.p50 is None or times.p99 is None:
        return UNKNOWN
    return f"50 % in {units.milliseconds(times.p50)}, 99 % in {units.milliseconds(times.p99)}"


def job(state: Mapping[str, Any]) -> str:
    """``backup 40 %, copying``."""
    fraction = state["fraction"]
    done = "" if fraction is None else f" {100 * fraction:.0f} %"
    step = output.one_line(str(state["step"] or ""))
    return f"{state['kind']}{done}" + (f", {step}" if step else "")


def page(stats: Mapping[str, Any], rates: Rates, now: float, trouble: str = "") -> "RenderableType":
    """Everything, for a terminal; ``trouble`` is why it may be out of date."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for name, value in facts(stats, rates, now):
        grid.add_row(name, Text(value))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    table.add_column("PID", justify="right", no_wrap=True)
    table.add_column("USER", no_wrap=True, overflow="ellipsis", max_width=16)
    table.add_column("PROGRAM", no_wrap=True, overflow="ellipsis", ratio=1)
    for heading in ("REQUESTS/S", "REQUESTS", "WAITING"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in rates.clients:
        table.add_row(
            str(each.pid or "?"),
            Text(user_name(each.uid)),
            Text(output.one_line(str(each.program or "?"))),
            short_count(each.requests_per_second),
            units.count(each.requests),
            units.count(each.waiting),
        )
    last = Text(trouble or "q quits", "yellow" if trouble else "dim", no_wrap=True)
    return Group(grid, "", table, "", last)
