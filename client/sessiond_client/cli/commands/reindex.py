"""``sessionctl reindex``."""

import click

from sessiond_client.cli import output, units
from sessiond_client.cli.connect import opened
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options
from sessiond_client.cli.progress import job_progress


@click.command("reindex")
@json_option
@place_options
@pass_asked
def command(asked: Asked, as_json: bool) -> None:
    """Make the search index anew from the messages.

    Seldom needed: the daemon keeps it, and mends what it finds broken. Others go on, and find
    everything meanwhile.

    \b
    Examples:
      sessionctl reindex
      sessionctl reindex --json | jq .seconds
    """
    with opened(asked) as db, job_progress("rebuild") as progress:
        done = db.rebuild_index(progress=progress)
    if as_json:
        output.print_json(done)
    else:
        made = " and ".join(done["rebuilt"]) or "nothing"
        click.echo(f"{made} made anew in {units.span(done['seconds'])}")
