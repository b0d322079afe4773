"""``sessionctl end``."""

import os
from typing import Final

import click

from sessiond_client.cli import units
from sessiond_client.cli.connect import opened
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.options import Asked, pass_asked, place_options
from sessiond_client.cli.output import one_line
from sessiond_client.cli.sessions import find_session

REASON: Final = "sessionctl"


@click.command("end")
@click.argument("session")
@click.option("--reason", metavar="TEXT", help=f"Why it ends.  [default: {REASON}]")  # fmt: skip
@click.option("--reopen", is_flag=True, help="Take a session's end back instead.")
@place_options
@pass_asked
def command(asked: Asked, session: str, reason: str | None, reopen: bool) -> None:
    """End a session, or reopen it.

    SESSION is an id, the beginning of one, or its exact title. A session that has ended keeps
    its time and its reason.

    \b
    Examples:
      sessionctl end 20251121_0625 --reason abandoned
      sessionctl end 20251121_0625 --reopen
    """
    if reopen and reason is not None:
        raise click.UsageError("--reopen and --reason exclude each other")
    with opened(asked) as db:
        session_id = find_session(db, session, lineage=False)
        if reopen:
            db.reopen_session(session_id)
            click.echo(f"{session_id} is open again")
            return
        db.end_session(session_id, reason or REASON)
        found = db.get_session(session_id)
    if found is None:
        raise Refused(f"session {session_id!r} was deleted just now", os.EX_NOINPUT)
    why = one_line(str(found["end_reason"] or "no reason"))
    click.echo(f"{session_id} ended {units.local_time(found['ended_at'])}, {why}")
