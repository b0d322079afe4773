"""``sessionctl tail``."""

import select
import sys
import threading
import time

import click

from sessiond_client import Event, SessionDB
from sessiond_client._watching import Watching
from sessiond_client.cli import exits, output, reading, tail_lines
from sessiond_client.cli.connect import opened
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options
from sessiond_client.cli.sessions import find_session


@click.command("tail")
@click.argument("session", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with what is stored from now on.")
@click.option("--last", "-n", type=click.IntRange(min=0), default=10, show_default=True,
              metavar="N", help="Begin with the last N messages.")  # fmt: skip
@click.option("--full", is_flag=True, help="Print long results of tools, and reasoning, whole.")
@json_option
@place_options
@pass_asked
def command(
    asked: Asked, session: str | None, follow: bool, last: int, full: bool, as_json: bool
) -> int:
    """Print the last messages of a session or of all, and follow.

    SESSION is an id, the beginning of one, or a title. With --follow messages are printed as
    they are stored, over restarts of the daemon, without a gap; what else happens to sessions
    is said in a line. --json prints one object per line. Ctrl-C ends it.

    \b
    Examples:
      sessionctl tail -f
      sessionctl tail "trip to Lisbon" -n 50
      sessionctl tail -f -n 0 --json | jq -r 'select(.role == "user").content'
    """
    try:
        with opened(asked) as db:
            session_id = None if session is None else find_session(db, session)
            printing = Printing(as_json=as_json, full=full, with_session=session_id is None)
            stored = reading.latest(db, session_id, last)
            if not stored and last and not follow:
                output.note("no messages")
            for event in tail_lines.as_events(stored):
                printing.print(event)
            if follow:
                after = stored[-1]["id"] if stored else 0
                _follow(db, session_id, after if last else None, printing)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    return 0


def _follow(db: SessionDB, session_id: str | None, after: int | None, printing: "Printing") -> None:
    with db.watch(session_id, after) as feed:
        sys.stdout.flush()
        _end_with_the_reader(feed)
        for event in feed:
            printing.print(event)
            sys.stdout.flush()


def _end_with_the_reader(feed: Watching) -> None:
    """End the feed when nobody reads the output any more: the next line may be far away."""

    def wait() -> None:
        closed = select.poll()
        closed.register(1, 0)  # nothing but the error that a pipe without a reader has
        closed.poll()
        feed.close()

    threading.Thread(target=wait, name="reader", daemon=True).start()


class Printing:
    """Events on standard output, for people or as JSON."""

    def __init__(self, *, as_json: bool, full: bool, with_session: bool) -> None:
        self._as_json = as_json
        self._full = full
        self._with_session = with_session

    def print(self, event: Event) -> None:
        """One event, if it is worth a line."""
        if self._as_json:
            sys.stdout.write(output.json_text(tail_lines.as_object(event), sys.stdout) + "\n")
        elif event.message is not None:
            lines = tail_lines.message_lines(
                event.message,
                time.time(),
                output.console().width,
                with_session=self._with_session,
                full=self._full,
            )
            output.print_trimmed(lines)
        elif remark := tail_lines.remark(event):
            from rich.text import Text

            output.print_trimmed(Text(remark, "dim"))
