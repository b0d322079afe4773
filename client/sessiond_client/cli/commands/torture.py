"""``sessionctl torture``."""

import os
import random
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sessiond_client.cli import output, units
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.options import Asked, json_option, pass_asked
from sessiond_protocol.paths import MAX_SOCKET_PATH

if TYPE_CHECKING:
    from sessiond_client.torture.plan import Fault, Plan
    from sessiond_client.torture.result import Result
    from sessiond_client.torture.run import Scene

DEFAULT_SECONDS: Final = 30.0
DEFAULT_CLIENTS: Final = 6
SHOWN_VIOLATIONS: Final = 50
VIOLATED: Final = 1


@click.command("torture", short_help="Prove that nothing is lost, doubled or stuck.")
@click.option("--seconds", type=click.FloatRange(min=2), default=DEFAULT_SECONDS,
              metavar="SECONDS", show_default=True, help="How long.")  # fmt: skip
@click.option("--clients", type=click.IntRange(1, 200), default=DEFAULT_CLIENTS, metavar="N",
              show_default=True, help="How many processes write.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), metavar="N",
              help="What the plan is made from; the same seed gives the same plan.")  # fmt: skip
@click.option("--database", type=click.Path(path_type=str), metavar="PATH",
              help="A scratch database to make, on a disk of your choice.")  # fmt: skip
@click.option("--sessiond", "program", metavar="COMMAND",
              help="The daemon's program, if not the one that is installed here.")  # fmt: skip
@click.option("--show-plan", is_flag=True, help="Print the plan and do nothing.")
@json_option
@pass_asked
def command(
    asked: Asked,
    seconds: float,
    clients: int,
    seed: int | None,
    database: str | None,
    program: str | None,
    show_plan: bool,
    as_json: bool,
) -> None:
    """Prove on a scratch database that nothing is lost, doubled or stuck.

    Real client processes write numbered messages while the daemon and some of them are killed,
    stopped and continued, starved of disk and cut off inside a message. Afterwards every
    answered write must be there exactly once and in order, no list of messages in part,
    counters equal to rows, the search index equal to the content, and no call without an
    answer. Ends with status 1 if anything is not so. Your own database is never touched.

    \b
    Examples:
      sessionctl torture
      sessionctl torture --seconds 600 --clients 8 --seed 7
      sessionctl torture --database /mnt/slow/scratch.db
    """
    from sessiond_client.torture.plan import make_plan

    if sys.platform != "linux":
        raise Refused(f"this needs Linux, not {sys.platform}", os.EX_UNAVAILABLE)
    plan = make_plan(random.randrange(1_000_000) if seed is None else seed, seconds, clients)
    if show_plan:
        _show_plan(plan)
        return
    with ExitStack() as stack:
        scene, folder = _prepare(database or asked.database, program)
        stack.callback(shutil.rmtree, folder)
        stack.callback(scene.disk.leave)
        result = _carry_out(plan, scene, quiet=as_json)
        if result.violations:
            stack.pop_all()
            _keep(scene)
            scene.disk.leave()
    kept = str(scene.folder) if result.violations else None
    if as_json:
        output.print_json(_as_json(plan, result, kept))
    else:
        _print(plan, result, kept)
    click.get_current_context().exit(VIOLATED if result.violations else 0)


def _prepare(database: str | None, program: str | None) -> "tuple[Scene, Path]":
    """Where it takes place: beside the database that was named, or on a disk of its own."""
    from sessiond_client.torture.disk import Limited, private_disk
    from sessiond_client.torture.processes import SESSIOND
    from sessiond_client.torture.run import Scene

    words = shlex.split(program) if program else SESSIOND
    if database is None:
        folder = Path(tempfile.mkdtemp(prefix="sessiond-torture-"))
        place = folder / "disk"
        place.mkdir()
        path = place / "state.db"
        return Scene(path, folder, private_disk(place) or Limited(path), words), folder
    path = Path(os.path.abspath(database))
    for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", ".sessiond"))):
        if os.path.lexists(each):
            raise Refused(f"{each} exists; name a database that is not there yet", os.EX_CANTCREAT)
    longest = path.parent / f"{path.name}.torture-12345678" / "client-999.sock"
    if len(os.fsencode(longest)) > MAX_SOCKET_PATH:
        raise Refused(
            f"{path} lies too deep: sockets are made beside it, and their paths must not exceed"
            f" {MAX_SOCKET_PATH} bytes; name a shorter path",
            os.EX_CANTCREAT,
        )
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{path.name}.torture-", dir=path.parent))
    except OSError as error:
        raise Refused(f"cannot write beside {path}: {error.strerror}", os.EX_CANTCREAT) from error
    return Scene(folder / path.name, folder, Limited(folder / path.name), words), folder


def _carry_out(plan: "Plan", scene: "Scene", *, quiet: bool) -> "Result":
    from sessiond_client.torture.result import torture

    if quiet or not output.is_terminal():
        return torture(plan, scene)
    with output.console().status(f"seed {plan.seed}: the writers begin") as status:

        def told(fault: "Fault") -> None:
            status.update(f"seed {plan.seed}, {fault.at:.1f} of {plan.seconds:g} s: {fault.kind}")

        return torture(plan, scene, told)


def _keep(scene: "Scene") -> None:
    """Save the evidence from a disk that goes with this process."""
    if scene.database.parent != scene.folder:
        saved = scene.folder / "database"
        shutil.copytree(scene.database.parent, saved, dirs_exist_ok=True)


# --- what is printed -----------------------------------------------------------------------


def _show_plan(plan: "Plan") -> None:
    columns = (
        output.Column("AT", right=True),
        output.Column("FOR", right=True),
        output.Column("FAULT"),
        output.Column("CLIENT", right=True),
    )
    output.print_table(columns, [_plan_row(fault) for fault in plan.faults])


def _plan_row(fault: "Fault") -> Sequence[str]:
    client = "" if fault.client is None else str(fault.client)
    length = f"{fault.seconds:.2f} s" if fault.seconds else ""
    return f"{fault.at:.2f} s", length, str(fault.kind), client


def _print(plan: "Plan", result: "Result", kept: str | None) -> None:
    course, verdict = result.course, result.verdict
    columns = (output.Column("FAULT"), output.Column("INJECTED", right=True))
    output.print_table(
        columns, [(str(kind), units.count(n)) for kind, n in _faults(result).items()]
    )
    click.echo()
    output.print_facts(
        [
            ("seed", f"{plan.seed}, {plan.clients} clients, {course.seconds:.1f} s"),
            ("daemon", units.plural(course.starts, "start")
                       + (f", {units.count(course.left_for_room)} of them because it left for"
                          " want of room" if course.left_for_room else "")),
            ("clients", f"{sum(course.lives)} processes, one after the other in {plan.clients}"
                        " roles"),
            ("calls", f"{units.count(verdict.calls)}: {units.count(verdict.answered)} answered,"
                      f" {units.count(verdict.refused.total())} refused{_codes(result)},"
                      f" {units.count(verdict.open)} whose caller died first"),
            ("messages", f"{units.count(verdict.messages)} stored"),
            ("care", ", ".join(f"{units.count(n)} × {kind}" for kind, n in _cared(result).items())),
            ("longest wait", f"{verdict.longest_wait:.2f} s"),
            *[("not checked", each) for each in verdict.not_checked],
            ("violations", units.count(len(result.violations))),
        ]
    )  # fmt: skip
    for violation in result.violations[:SHOWN_VIOLATIONS]:
        click.echo(f"  {output.one_line(violation)}")
    if kept:
        click.echo(f"journals, logs and the database are kept in {kept}")


def _codes(result: "Result") -> str:
    refused = result.verdict.refused
    return f" ({', '.join(sorted(refused))})" if refused else ""


def _faults(result: "Result") -> dict[str, int]:
    from sessiond_client.torture.plan import Kind

    return {kind.value: result.course.faults[kind] for kind in Kind}


def _cared(result: "Result") -> dict[str, int]:
    """What came to its end; what the daemon's own end cut short did not."""
    return {kind.value: n for kind, n in sorted(result.course.cared.items())}


def _as_json(plan: "Plan", result: "Result", kept: str | None) -> dict[str, Any]:
    course, verdict = result.course, result.verdict
    return {
        "seed": plan.seed,
        "clients": plan.clients,
        "seconds": course.seconds,
        "faults": _faults(result),
        "cared": _cared(result),
        "daemon_starts": course.starts,
        "daemon_left_for_room": course.left_for_room,
        "client_lives": sum(course.lives),
        "calls": verdict.calls,
        "answered": verdict.answered,
        "refused": dict(verdict.refused),
        "open": verdict.open,
        "messages": verdict.messages,
        "longest_wait": verdict.longest_wait,
        "not_checked": verdict.not_checked,
        "violations": result.violations,
        "kept": kept,
    }
