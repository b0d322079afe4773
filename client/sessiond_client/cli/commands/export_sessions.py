"""``sessionctl export``."""

import os
import sys
from pathlib import Path

import click

from sessiond_client.cli import units
from sessiond_client.cli.confirm import confirm
from sessiond_client.cli.connect import opened
from sessiond_client.cli.options import Asked, pass_asked, place_options, yes_option
from sessiond_client.cli.progress import Progress
from sessiond_client.cli.sessions import find_session


@click.command("export")
@click.argument("sessions", nargs=-1, metavar="[SESSION]...")
@click.option("--source", "-s", metavar="NAME", help="Sessions of this source only.")
@click.option("--output", "-o", "target", metavar="FILE", type=click.Path(dir_okay=False),
              help="Write to FILE, whole or not at all.")  # fmt: skip
@click.option("--transcripts", "directory", metavar="DIR", type=click.Path(file_okay=False),
              help="Write transcripts and sessions.json as gateways do.")  # fmt: skip
@yes_option
@place_options
@pass_asked
def command(
    asked: Asked,
    sessions: tuple[str, ...],
    source: str | None,
    target: str | None,
    directory: str | None,
    yes: bool,
) -> None:
    """Print sessions and their messages as JSON Lines.

    One session a line, as import reads it: all sessions, or those that are named by id, the
    beginning of one, or title.

    \b
    Examples:
      sessionctl export > backup.jsonl
      sessionctl export --source telegram -o telegram.jsonl
      sessionctl export "trip to Lisbon" | jq '.messages | length'
      sessionctl export --transcripts ~/old-format
    """
    from sessiond_client.cli import export_files as files

    if sessions and source is not None:
        raise click.UsageError("--source and names of sessions exclude each other")
    if target is not None and directory is not None:
        raise click.UsageError("--output and --transcripts exclude each other")
    target = None if target == "-" else target
    check_target(target, directory, yes=yes)
    with opened(asked) as db:
        ids = list(dict.fromkeys(find_session(db, name) for name in sessions))
        total = len(ids) or db.session_count(source)
        with Progress("exporting", total) as progress:
            exported = files.counted(files.exporting(db, ids, source), progress)
            if directory is not None:
                written = files.write_directory(
                    db, exported, Path(directory), whole=not ids and source is None
                )
            elif target is not None:
                with files.written_whole(Path(target)) as stream:
                    written = files.write_lines(exported, stream)
            else:
                files.write_lines(exported, sys.stdout)
                return
    click.echo(f"{units.plural(written, 'session')} exported to {target or directory}")


def check_target(target: str | None, directory: str | None, *, yes: bool) -> None:
    """Ask before something that exists is written over."""
    if target is not None and os.path.isfile(target):
        confirm(f"Replace {target}?", yes=yes)
    if directory is not None and os.path.isdir(directory) and os.listdir(directory):
        confirm(f"Replace transcripts in {directory}?", yes=yes)
