"""``sessionctl backup``."""

import os
import time
from typing import Any

import click

from sessiond_client.cli import output, units
from sessiond_client.cli.connect import database_path, opened
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options
from sessiond_client.cli.progress import job_progress


@click.command("backup")
@click.argument("path", type=click.Path())
@json_option
@place_options
@pass_asked
def command(asked: Asked, path: str, as_json: bool) -> None:
    """Copy the database into a new file while it is in use.

    PATH is the new file, or a directory, in which it is named after the database and the time.
    The daemon writes it, so it must be a place that the daemon may write to. The copy has
    everything that was answered before, is checked, and is complete once it has its name.

    \b
    Examples:
      sessionctl backup ~/backups/state-2025-11-20.db
      sessionctl backup ~/backups
      sessionctl backup ~/backups --json | jq -r .path
    """
    target = target_of(path, database_path(asked), time.localtime())
    with opened(asked) as db, job_progress("backup") as progress:
        done = db.backup(target, progress=progress)
    for finding in done["findings"]:
        told = output.one_line(str(finding))
        click.echo(f"sessionctl: in the copy, sessionctl check --repair mends it: {told}", err=True)
    if as_json:
        output.print_json(done)
    else:
        click.echo(text(done))


def target_of(path: str, database: str, now: time.struct_time) -> str:
    """The file that is meant; in a directory it is named after the database and the time."""
    if not os.path.isdir(path):
        return path
    stem, suffix = os.path.splitext(os.path.basename(database))
    return os.path.join(path, f"{stem}-{time.strftime('%Y-%m-%d-%H%M%S', now)}{suffix}")


def text(done: dict[str, Any]) -> str:
    """What was copied, where to."""
    return (
        f"{done['path']}: {units.plural(done['sessions'], 'session')},"
        f" {units.plural(done['messages'], 'message')}, {units.size(done['bytes'])}"
        f" in {units.span(done['seconds'])}"
    )
