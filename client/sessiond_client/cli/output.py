"""Printing: tables that fit, colours only on a terminal, JSON for programs.

``rich`` is imported when something is drawn with it, so that ``--help`` and ``--json`` need not
wait for it.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from sessiond_client.cli.fitting import fit

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# A message may hold escape sequences: shown as they are they would steer the terminal.
# So would the marks that turn the direction of writing, and separators that end a line.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNLIMITED: Final = 100_000
_GAP: Final = 2
_ENOUGH: Final = 12
_ENOUGH_OF_FIRST: Final = 24

Row = dict[str, Any]

MATCH_START: Final = ">>>"
MATCH_END: Final = "<<<"


def printable(text: str) -> str:
    """``text`` without power over the terminal: control characters become visible ones."""
    return _CONTROL.sub(_picture, text.replace("\r\n", "\n"))


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str) -> str:
    """``text`` on one line, whitespace collapsed."""
    return printable(" ".join(text.split()))


def print_json(value: Any) -> None:
    """One JSON document."""
    click.echo(json_text(value, sys.stdout, indent=2))


def json_text(value: Any, stream: TextIO, *, indent: int | None = None) -> str:
    """``value`` as JSON; as ASCII where the stream's encoding cannot hold every character."""
    ascii_only = (stream.encoding or "").lower().replace("-", "") != "utf8"
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only, default=_plain)


def _plain(value: Any) -> Any:
    """A BLOB that another program stored has no form in JSON: its bytes in hexadecimal."""
    return value.hex() if isinstance(value, bytes) else str(value)


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def redraws(stream: TextIO) -> bool:
    """Whether a person reads ``stream``, at a terminal that can draw over what it shows."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


@cache
def console() -> "Console":
    """Standard output; as wide as need be when it is not a terminal."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    width = None if is_terminal() or "COLUMNS" in os.environ else _UNLIMITED
    return Output(width=width, markup=False, emoji=False, highlight=False, soft_wrap=False)


def styled() -> bool:
    """Whether standard output shows bold and colours."""
    return console().color_system is not None


def note(message: str) -> None:
    """A remark beside the output, for people only."""
    if is_terminal():
        click.echo(message, err=True)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    ``flexible`` takes the room that the others leave, ``most`` bounds the width on a terminal.
    """

    heading: str
    right: bool = False
    flexible: bool = False
    most: int | None = None
    style: str = ""


def print_table(columns: Sequence[Column], rows: Iterable[Sequence["str | Text"]]) -> None:
    """A table without lines.

    On a terminal it is no wider than that: cells are cut with an ellipsis, and columns that do
    not fit at all are left out from the right.
    """
    from rich.table import Table

    terminal = console().width != _UNLIMITED
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    cells = [tuple(row) for row in rows]
    widths = _widths(columns, cells, console().width) if terminal else [None] * len(columns)
    for column, width in zip(columns, widths, strict=False):
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            style=column.style,
            no_wrap=True,
            overflow="ellipsis",
            width=width,
        )
    for row in cells:
        table.add_row(*row[: len(widths)])
    print_trimmed(table)


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence["str | Text"]], room: int
) -> list[int]:
    """The columns' widths; one that is flexible takes all the room that the others leave."""
    from rich.cells import cell_len

    natural = []
    for place, column in enumerate(columns):
        widest = max((cell_len(str(row[place])) for row in rows), default=0)
        natural.append(max(cell_len(column.heading), min(widest, column.most or widest)))
    # Of an id, which stands first, so much that it can be typed again.
    least = [min(width, _ENOUGH if place else _ENOUGH_OF_FIRST)
             for place, width in enumerate(natural)]  # fmt: skip
    widths = fit(natural, least, room, _GAP)
    left = room - sum(widths) - _GAP * (len(widths) - 1)
    for place, column in enumerate(columns[: len(widths)]):
        if column.flexible and left > 0:
            widths[place] += left
            break
    return widths


def print_trimmed(drawn: Any) -> None:
    """Print without the blanks that a layout leaves at the ends of its lines."""
    out = console()
    with out.capture() as captured:
        out.print(drawn)
    for line in captured.get().splitlines():
        out.file.write(line.rstrip(" ") + "\n")


def print_flowing(text: "str | Text") -> None:
    """Text as it is, long lines left to the terminal, so that it can be copied from there."""
    console().print(text, soft_wrap=True)


def print_facts(facts: Iterable[tuple[str, "str | Text"]]) -> None:
    """Names and values below each other; long values go on under themselves."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, value)
    print_trimmed(grid)


def marked(snippet: str) -> "Text":
    """A search snippet on one line; matches bold, or still marked where nothing can be bold."""
    from rich.text import Text

    text = one_line(snippet)
    if not styled():
        return Text(text)
    shown = Text()
    for place, part in enumerate(re.split(f"{MATCH_START}|{MATCH_END}", text)):
        shown.append(part, "bold yellow" if place % 2 else "")
    return shown
