"""``sessionctl search``."""

import time
from typing import Any, Final

import click

from sessiond_client._requests import search_request
from sessiond_client.cli import output, units
from sessiond_client.cli.connect import ask, opened
from sessiond_client.cli.exits import NOTHING_FOUND
from sessiond_client.cli.options import Asked, json_option, page_options, pass_asked, place_options

SHORTEST_ID: Final = 12


@click.command("search")
@click.argument("query", nargs=-1, required=True)
@click.option("--source", "-s", "sources", multiple=True, metavar="NAME",
              help="In sessions of this source only; may be repeated.")  # fmt: skip
@click.option("--exclude", "-x", "excluded", multiple=True, metavar="NAME",
              help="Not in sessions of this source; may be repeated.")  # fmt: skip
@click.option("--role", "-r", "roles", multiple=True, metavar="ROLE",
              help="Messages of this role only; may be repeated.")  # fmt: skip
@click.option("--context", "-C", "with_context", is_flag=True,
              help="Show the messages before and after, too.")  # fmt: skip
@page_options(20)
@json_option
@place_options
@pass_asked
def command(
    asked: Asked,
    query: tuple[str, ...],
    sources: tuple[str, ...],
    excluded: tuple[str, ...],
    roles: tuple[str, ...],
    with_context: bool,
    limit: int,
    offset: int,
    as_json: bool,
) -> int:
    """Search all messages, the best match first.

    All words must occur. "A phrase", OR, NOT, AND and prefix* work; everything else is literal
    text. Chinese, Japanese and Korean are found by any part. Ends with 1 if nothing is found.

    \b
    Examples:
      sessionctl search docker compose
      sessionctl search '"good morning"' --source telegram
      sessionctl search --role user 'deploy* NOT staging'
      sessionctl search 请安装
    """
    request = search_request(
        " ".join(query), sources or None, excluded or None, roles or None, limit, offset
    )
    with opened(asked) as db:
        found = ask(db, request)
    if found.degraded:
        click.echo(
            "sessionctl: the search index is out of order, matches may be missing"
            " (see sessionctl status)",
            err=True,
        )
    if as_json:
        output.print_json(found.rows)
    elif not found.rows:
        output.note("nothing found")
    for hit in () if as_json else found.rows:
        print_hit(hit, time.time(), with_context=with_context)
    if not as_json and len(found.rows) == limit:
        output.note(f"there may be more: --offset {offset + limit}")
    return 0 if found.rows else NOTHING_FOUND


def print_hit(hit: dict[str, Any], now: float, *, with_context: bool) -> None:
    """One match: where it stands on one line, its snippet below."""
    from rich.padding import Padding
    from rich.text import Text

    out = output.console()
    rest = Text(f"  #{hit['id']}  {output.one_line(str(hit['role']))}  ")
    rest.append(f"{output.one_line(str(hit['source']))}  {units.ago(hit['timestamp'], now)}", "dim")
    session = Text(output.one_line(str(hit["session_id"])), "cyan")
    session.truncate(max(SHORTEST_ID, out.width - rest.cell_len), overflow="ellipsis")
    out.print(session + rest, no_wrap=True, overflow="ellipsis")
    out.print(Padding(output.marked(hit["snippet"] or ""), (0, 0, 0, 2), expand=False))
    if with_context:
        for each in _neighbours(hit):
            line = f"{each['role']}: {output.one_line(str(each['content'] or ''))}"
            cut = Text(line, style="dim", no_wrap=True, overflow="ellipsis")
            out.print(Padding(cut, (0, 0, 0, 4), expand=False))


def _neighbours(hit: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages around a match."""
    return [each for each in hit["context"] or [] if isinstance(each, dict)]
