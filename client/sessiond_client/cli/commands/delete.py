"""``sessionctl delete``."""

from typing import Any

import click

from sessiond_client import SessionDB
from sessiond_client.cli import units
from sessiond_client.cli.confirm import confirm
from sessiond_client.cli.connect import opened
from sessiond_client.cli.options import Asked, pass_asked, place_options, yes_option
from sessiond_client.cli.output import one_line
from sessiond_client.cli.sessions import find_session


@click.command("delete")
@click.argument("sessions", nargs=-1, required=True, metavar="SESSION...")
@yes_option
@place_options
@pass_asked
def command(asked: Asked, sessions: tuple[str, ...], yes: bool) -> None:
    """Delete sessions with their messages.

    SESSION is an id, the beginning of one, or its exact title. All are looked up before the
    first is deleted. Sessions that continued a deleted one stay, without a parent.

    \b
    Examples:
      sessionctl delete 20251121_0625
      sessionctl delete --yes 20251121_0625 "trip to Lisbon"
    """
    with opened(asked) as db:
        found = [_found(db, name) for name in sessions]
        doomed = list({session["id"]: session for session in found}.values())
        for session in doomed:
            click.echo(described(session), err=True)
        confirm(f"Delete {units.plural(len(doomed), 'session')} for ever?", yes=yes)
        for session in doomed:
            existed = db.delete_session(session["id"])
            click.echo(f"{session['id']} {'is deleted' if existed else 'was deleted already'}")


def _found(db: SessionDB, name: str) -> dict[str, Any]:
    session_id = find_session(db, name, lineage=False)
    return db.get_session(session_id) or {"id": session_id}


def described(session: dict[str, Any]) -> str:
    """What is about to be deleted, on one line."""
    title = f" {one_line(str(session['title']))!r}" if session.get("title") else ""
    messages = units.plural(session.get("message_count") or 0, "message")
    started = session.get("started_at")
    since = f", started {units.local_time(started)}" if started is not None else ""
    return f"{session['id']}{title}: {messages}{since}"
