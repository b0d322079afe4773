"""``sessionctl rename``."""

import os

import click

from sessiond_client.cli.connect import opened
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.options import Asked, pass_asked, place_options
from sessiond_client.cli.sessions import find_session
from sessiond_protocol.titles import sanitize_title


@click.command("rename")
@click.argument("session")
@click.argument("title", required=False)
@click.option("--clear", is_flag=True, help="Take the title away.")
@place_options
@pass_asked
def command(asked: Asked, session: str, title: str | None, clear: bool) -> None:
    """Give a session a title, or take it away.

    SESSION is an id, the beginning of one, or its exact title. A title belongs to one session.

    \b
    Examples:
      sessionctl rename 20251121_0625 "trip to Lisbon"
      sessionctl rename "trip to Lisbon" --clear
    """
    wanted = chosen_title(title, clear=clear)
    with opened(asked) as db:
        session_id = find_session(db, session, lineage=False)
        if not db.set_session_title(session_id, wanted):
            raise Refused(f"session {session_id!r} was deleted just now", os.EX_NOINPUT)
    click.echo(f"{session_id} is now {wanted!r}" if wanted else f"{session_id} has no title now")


def chosen_title(title: str | None, *, clear: bool) -> str | None:
    """The title to set, cleaned; None to clear it. Refuses what is neither or both."""
    if clear == (title is not None):
        raise click.UsageError("give either a title or --clear")
    try:
        if title is not None:
            title.encode()  # what the shell passed on, in another encoding, cannot be stored
        cleaned = sanitize_title(title)
    except UnicodeEncodeError:
        raise Refused(f"title {title!r} is not text in this locale's encoding",
                      os.EX_DATAERR) from None  # fmt: skip
    except ValueError as error:
        raise Refused(str(error), os.EX_DATAERR) from error
    if title is not None and cleaned is None:
        raise Refused(f"title {title!r} is blank; --clear takes the title away", os.EX_DATAERR)
    return cleaned
