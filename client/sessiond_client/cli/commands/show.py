"""``sessionctl show``."""

import os
import sys

import click

from sessiond_client import SessionDB
from sessiond_client.cli import output, reading, transcript, units
from sessiond_client.cli.connect import opened
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.options import Asked, json_option, page_options, pass_asked, place_options
from sessiond_client.cli.sessions import find_session


@click.command("show")
@click.argument("session")
@page_options(None)
@click.option("--last", type=click.IntRange(min=0), metavar="N", help="Print the last N only.")
@click.option("--full", is_flag=True, help="Print long results of tools, and reasoning, whole.")
@click.option("--raw", is_flag=True, help="Print the contents alone, exactly as stored.")
@json_option
@place_options
@pass_asked
def command(
    asked: Asked,
    session: str,
    limit: int | None,
    offset: int,
    last: int | None,
    full: bool,
    raw: bool,
    as_json: bool,
) -> None:
    """Print a session's transcript.

    SESSION is an id, the beginning of one, or a title; a title stands for its newest
    continuation ("title #3").

    \b
    Examples:
      sessionctl show 20251121_0625
      sessionctl show "trip to Lisbon" --last 10
      sessionctl show 20251121_0625 --json | jq '.messages[].role'
    """
    if raw and as_json:
        raise click.UsageError("--raw and --json exclude each other")
    if last is not None and (limit is not None or offset):
        raise click.UsageError("--last excludes --limit and --offset")
    with opened(asked) as db:
        session_id = find_session(db, session)
        if last is not None:
            limit, offset = last, max(0, db.message_count(session_id) - last)
        if as_json:
            print_as_json(db, session_id, limit, offset)
        elif raw:
            print_raw(db, session_id, limit, offset)
        else:
            print_transcript(db, session_id, limit, offset, full=full)


def print_as_json(db: SessionDB, session_id: str, limit: int | None, offset: int) -> None:
    """The session with its messages: the form of an export."""
    session = _session(db, session_id)
    session["messages"] = db.get_messages(session_id, limit, offset)
    output.print_json(session)


def print_raw(db: SessionDB, session_id: str, limit: int | None, offset: int) -> None:
    """The contents, each ended by a line break."""
    for page in reading.pages(db, session_id, limit, offset):
        for text in transcript.raw_texts(page):
            sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_transcript(
    db: SessionDB, session_id: str, limit: int | None, offset: int, *, full: bool
) -> None:
    """The session's facts, then its messages."""
    session = _session(db, session_id)
    output.print_facts(transcript.session_facts(session))
    printed = 0
    for page in reading.pages(db, session_id, limit, offset):
        for message in page:
            output.print_flowing("")
            output.print_flowing(transcript.message_text(message, full=full))
        printed += len(page)
    total = session["message_count"] or 0
    if offset or offset + printed < total:
        output.note(f"{printed} of {units.plural(total, 'message')}")


def _session(db: SessionDB, session_id: str) -> output.Row:
    session = db.get_session(session_id)
    if session is None:
        raise Refused(f"session {session_id!r} was deleted just now", os.EX_NOINPUT)
    return session
