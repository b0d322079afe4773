"""``sessionctl prune``."""

import re
import time
from typing import Any, Final

import click

from sessiond_client import SessionDB
from sessiond_client.cli import units
from sessiond_client.cli.confirm import confirm
from sessiond_client.cli.connect import ask, opened
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options, yes_option
from sessiond_client.cli.output import print_json
from sessiond_client.cli.progress import Progress
from sessiond_protocol.requests.session import SessionPrunable, SessionPruneSlice

_UNITS: Final = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0, "y": 365 * 86_400.0}


class Age(click.ParamType[float]):
    """A span in days, or with a unit, as seconds."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdwy]?)", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not an age; allowed are 90, 90d, 12h, 6w, 1y", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "d"]


@click.command("prune", short_help="Delete ended sessions that started long ago.")
@click.option("--older-than", "age", type=Age(), default="90d", show_default=True, metavar="AGE",
              help="Sessions that started longer ago: 90d, 12h, 6w, 1y.")  # fmt: skip
@click.option("--source", "-s", metavar="NAME", help="Sessions of this source only.")
@click.option("--dry-run", is_flag=True, help="Only say how many it would be.")
@yes_option
@json_option
@place_options
@pass_asked
def command(
    asked: Asked, age: float, source: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Delete ended sessions that started long ago, with their messages.

    Sessions that have not ended stay, however old they are. Others can write meanwhile.

    \b
    Examples:
      sessionctl prune --dry-run
      sessionctl prune --older-than 30d --source cron --yes
    """
    before = time.time() - age
    with opened(asked) as db:
        count = ask(db, SessionPrunable(before=before, source=source))
        if not dry_run and count:
            confirm(question(count, before, source), yes=yes)
        deleted = 0 if dry_run or not count else prune(db, before, source, count)
    if as_json:
        print_json({"prunable": count, "deleted": deleted, "before": before, "source": source})
    elif dry_run:
        click.echo(f"{units.plural(count, 'session')} would be deleted")
    else:
        click.echo(f"{units.plural(deleted, 'session')} deleted")


def question(count: int, before: float, source: str | None) -> str:
    """What is asked before anything is deleted."""
    of = f" of source {source!r}" if source is not None else ""
    sessions = units.plural(count, "ended session")
    return f"Delete {sessions}{of} from before {units.local_time(before)} for ever?"


def prune(db: SessionDB, before: float, source: str | None, expected: int) -> int:
    """Delete slice by slice, so that others can write in between; how many were deleted."""
    deleted = 0
    with Progress("deleting", expected) as progress:
        while gone := ask(db, SessionPruneSlice(before=before, source=source)):
            deleted += gone
            progress.advance(gone)
    return deleted
