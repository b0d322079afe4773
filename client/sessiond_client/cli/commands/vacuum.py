"""``sessionctl vacuum``."""

from collections.abc import Mapping, Sequence
from typing import Final

import click

from sessiond_client.cli import output, units
from sessiond_client.cli.confirm import confirm
from sessiond_client.cli.connect import ask, opened
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options, yes_option
from sessiond_client.cli.progress import job_progress
from sessiond_protocol.requests.job import JobList, JobState
from sessiond_protocol.requests.server import ServerStats

# Every page in use is read, and written three times: beside the database, into its log, and
# from there into the database. A disk of some age takes this many bytes of them a second.
_BYTES_PER_SECOND: Final = 40e6
# A backup writes every page once.
_OF_A_BACKUP: Final = 1 / 3
_TOO_SHORT: Final = 0.05


@click.command("vacuum")
@yes_option
@json_option
@place_options
@pass_asked
def command(asked: Asked, yes: bool, as_json: bool) -> None:
    """Write the database anew, without its free pages.

    Seldom worth it: free pages are used again. Nobody else can write until it is over; reading
    goes on. It needs room for the database twice. Asks first, and says how long others wait.

    \b
    Examples:
      sessionctl vacuum
      sessionctl vacuum --yes --json
    """
    with opened(asked) as db:
        stats, jobs = ask(db, ServerStats()), ask(db, JobList())
        confirm(question(stats["pages"], jobs), yes=yes)
        with job_progress("vacuum") as progress:
            done = db.vacuum(progress=progress)
    if as_json:
        output.print_json(done)
    else:
        click.echo(
            f"{units.size(done['bytes_before'])} before, {units.size(done['bytes_after'])} now,"
            f" in {units.span(done['seconds'])}"
        )


def question(pages: Mapping[str, int], jobs: Sequence[JobState]) -> str:
    """What it gains and costs, before it is done; ``pages`` is what the statistics say of them."""
    size = pages["page_size"] * pages["page_count"]
    free = pages["page_size"] * pages["free_pages"]
    return (
        f"Write {units.size(size)} anew to free {units.size(free)}?"
        f" Others cannot write for {in_words(estimate(size - free, jobs))}."
    )


def in_words(seconds: float) -> str:
    """An estimate, no more exact than it is."""
    return "about a second" if seconds < 2 else f"some {units.duration(seconds)}"


def estimate(used: float, jobs: Sequence[JobState]) -> float:
    """How many seconds so many bytes take, at the speed of the last vacuum, else backup."""
    speeds = {job.kind: speed for job in jobs if (speed := _speed(job)) is not None}
    if "vacuum" in speeds:
        return used / speeds["vacuum"]
    if "backup" in speeds:
        return used / (speeds["backup"] * _OF_A_BACKUP)
    return used / _BYTES_PER_SECOND


def _speed(job: JobState) -> float | None:
    """Bytes a second of a job that is over; None where it was too short to tell."""
    result = job.result or {}
    amount, seconds = result.get("bytes_after", result.get("bytes")), result.get("seconds", 0.0)
    return amount / seconds if amount and seconds > _TOO_SHORT else None
