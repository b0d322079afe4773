"""``sessionctl check``."""

from collections.abc import Iterator
from typing import Any, Final

import click

from sessiond_client.cli import output, units
from sessiond_client.cli.connect import opened
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options
from sessiond_client.cli.progress import job_progress

FOUND: Final = 1


@click.command("check")
@click.option("--now", is_flag=True,
              help="Look at the file itself, not at a copy; its log grows meanwhile.")  # fmt: skip
@click.option("--repair", is_flag=True, help="Mend what can be made again from the messages.")
@json_option
@place_options
@pass_asked
def command(asked: Asked, now: bool, repair: bool, as_json: bool) -> int:
    """Look whether everything in the database is as it should be.

    Counters, search indexes, side tables and the file's structure. The daemon looks at a copy,
    for which there must be room beside the database; others go on meanwhile. Ends with 1 if
    something is wrong that was not mended.

    \b
    Examples:
      sessionctl check
      sessionctl check --repair
      sessionctl check --now --json | jq .counts
    """
    with opened(asked) as db, job_progress("check") as progress:
        done = db.check(now=now, repair=repair, progress=progress)
    if as_json:
        output.print_json(done)
    else:
        for line in lines(done):
            click.echo(line)
    return FOUND if unmended(done) else 0


def unmended(done: dict[str, Any]) -> list[str]:
    """The kinds of findings that are still there."""
    return [kind for kind in done["counts"] if kind not in done["repaired"]]


def lines(done: dict[str, Any]) -> Iterator[str]:
    """Findings, what was mended, and what to do about the rest."""
    listed: dict[str, int] = {}
    for finding in done["findings"]:
        kind = str(finding["kind"])
        listed[kind] = listed.get(kind, 0) + 1
        yield f"{kind}: {output.one_line(str(finding['detail']))}"
    for kind, count in done["counts"].items():
        if count > listed.get(kind, 0):
            yield f"{kind}: {units.count(count - listed.get(kind, 0))} more"
    for skipped in done["skipped"]:
        yield f"not looked at: {output.one_line(str(skipped))}"
    took = units.span(done["seconds"])
    if done["sound"]:
        yield f"nothing is wrong, looked for {took}"
        return
    left = unmended(done)
    if done["repaired"]:
        yield f"mended: {', '.join(done['repaired'])}"
    if left:
        yield f"wrong: {', '.join(left)}; {advice(left)}"


def advice(kinds: list[str]) -> str:
    """What helps against these kinds of findings."""
    if {"file", "foreign key"} & set(kinds):
        return "bring back a backup with sessionctl restore"
    if "another program's index" in kinds:
        return "the program that made this index must rebuild it"
    return "sessionctl check --repair mends it"
