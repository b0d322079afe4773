"""``sessionctl checkpoint``."""

import os
from typing import Any

import click

from sessiond_client.cli import output, units
from sessiond_client.cli.connect import opened
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options


@click.command("checkpoint")
@json_option
@place_options
@pass_asked
def command(asked: Asked, as_json: bool) -> int:
    """Empty the write-ahead log into the database.

    The daemon does so by itself. This is for whoever wants it now, or wants to know who is in
    the way: ends with 75 and names who reads through the log.

    \b
    Examples:
      sessionctl checkpoint
      sessionctl checkpoint --json | jq .held_by
    """
    with opened(asked) as db:
        done = db.checkpoint()
    if as_json:
        output.print_json(done)
    else:
        click.echo(text(done))
    return os.EX_TEMPFAIL if done["busy"] else 0


def text(done: dict[str, Any]) -> str:
    """What came of it."""
    if not done["busy"]:
        return "the write-ahead log is empty"
    held = ", ".join(output.one_line(str(each)) for each in done["held_by"]) or "somebody"
    return (
        f"{units.count(done['checkpointed'])} of {units.plural(done['log'], 'page')} moved, the"
        f" log stays: {held} reads through it"
    )
