"""``sessionctl list``."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sessiond_client.cli import output, units
from sessiond_client.cli.connect import opened
from sessiond_client.cli.options import Asked, json_option, page_options, pass_asked, place_options

if TYPE_CHECKING:
    from rich.text import Text


@click.command("list")
@click.option("--source", "-s", metavar="NAME", help="Sessions of this source only.")
@click.option("--exclude", "-x", "excluded", multiple=True, metavar="NAME",
              help="Leave this source out; may be repeated.")  # fmt: skip
@page_options(20)
@json_option
@place_options
@pass_asked
def command(
    asked: Asked,
    source: str | None,
    excluded: tuple[str, ...],
    limit: int,
    offset: int,
    as_json: bool,
) -> None:
    """List sessions, the newest first.

    At a terminal the first message stands dim in the place of a missing title.

    \b
    Examples:
      sessionctl list
      sessionctl list --source telegram -n 50
      sessionctl list --json | jq -r '.[].id'
    """
    with opened(asked) as db:
        sessions = db.list_sessions_rich(source, list(excluded) or None, limit, offset)
        total = None if excluded or as_json else db.session_count(source)
    if as_json:
        output.print_json(sessions)
        return
    if not sessions:
        output.note("no sessions" if not offset else "no more sessions")
        return
    output.print_table(COLUMNS, [row(each, time.time()) for each in sessions])
    if total is not None and total > offset + len(sessions):
        output.note(f"{len(sessions)} of {units.count(total)}; go on with"
                    f" --offset {offset + len(sessions)}")  # fmt: skip


COLUMNS = (
    output.Column("ID", most=36, style="cyan"),
    output.Column("TITLE", flexible=True),
    output.Column("SOURCE", most=10),
    output.Column("MESSAGES", right=True),
    output.Column("LAST ACTIVE", right=True),
)


def row(session: dict[str, Any], now: float) -> Sequence["str | Text"]:
    """A session's line of the table; a preview stands dim in the place of a missing title."""
    from rich.text import Text

    title = session["title"]
    return (
        output.one_line(str(session["id"])),
        Text(output.one_line(str(title))) if title else _preview(str(session["preview"])),
        output.one_line(str(session["source"])),
        units.count(session["message_count"] or 0),
        units.ago(session["last_active"], now),
    )


def _preview(text: str) -> "Text":
    from rich.text import Text

    return Text(output.one_line(text), style="dim")
