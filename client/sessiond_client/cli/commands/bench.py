"""``sessionctl bench``."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sessiond_client.cli import output, units
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.options import Asked, Existing, json_option, pass_asked, place_options

if TYPE_CHECKING:
    from sessiond_client.bench.run import Measured, Settings
    from sessiond_client.bench.store import Target

# As in ``sessiond_client.bench.operations``, which --help need not load.
MIXES: Final = ("append", "append_many", "tokens", "turn", "transcript", "list", "search")
DEFAULT_SECONDS: Final = 10.0
FAILED: Final = 1


@click.command("bench")
@click.option("--mix", type=click.Choice(MIXES), default="append", show_default=True,
              metavar="MIX", help=f"What is done: {', '.join(MIXES)}.")  # fmt: skip
@click.option("--processes", "-c", type=click.IntRange(1, 1000), default=8, metavar="N",
              show_default=True, help="How many client processes work.")  # fmt: skip
@click.option("--in-flight", "-f", type=click.IntRange(1, 4000), default=1, metavar="N",
              show_default=True, help="Requests on their way at once, per process.")  # fmt: skip
@click.option("--seconds", "-t", type=click.FloatRange(0, 600, min_open=True), metavar="SECONDS",
              help=f"How long.  [default: {DEFAULT_SECONDS:g}, with --count 600]")  # fmt: skip
@click.option("--count", "-n", type=click.IntRange(min=1), metavar="N",
              help="Stop after N operations of all processes together.")  # fmt: skip
@click.option("--warm-up", type=click.FloatRange(0, 600), default=0.5, metavar="SECONDS",
              show_default=True, help="Work before the measuring.")  # fmt: skip
@click.option("--stored", type=click.IntRange(0), metavar="N",
              help="Messages there before.  [default: 10000 for mixes that read]")  # fmt: skip
@click.option("--session-length", type=click.IntRange(1), default=200, metavar="N",
              show_default=True, help="How many of them make a session.")  # fmt: skip
@click.option("--reads", type=click.Choice(("auto", "direct", "daemon")), default="auto",
              show_default=True, metavar="WAY",
              help="How clients read: the file (direct), or through the daemon.")  # fmt: skip
@click.option("--text", "text_file", type=Existing(dir_okay=False, path_type=Path),
              metavar="FILE", help="Messages to store: a JSON array of texts.")  # fmt: skip
@click.option("--seed", type=int, default=1, metavar="N", show_default=True,
              help="What the order of the work is made from.")  # fmt: skip
@click.option("--folder", type=Existing(file_okay=False, path_type=Path),
              metavar="PATH", help="A disk of your choice for the scratch database.")  # fmt: skip
@click.option("--plot", is_flag=True, help="Draw how the latencies are spread.")
@json_option
@place_options
@click.argument("serve_options", nargs=-1, type=click.UNPROCESSED)
@pass_asked
def command(
    asked: Asked,
    /,
    text_file: Path | None,
    folder: Path | None,
    reads: str,
    plot: bool,
    as_json: bool,
    serve_options: tuple[str, ...],
    **chosen: Any,
) -> None:
    """Measure a daemon under the load of several client processes.

    Without --database and --socket a daemon of its own is started on a scratch database;
    what follows -- are options for its `sessiond serve`. A daemon that is named gets sessions
    whose ids begin with "bench-"; they are deleted at the end.

    \b
    Examples:
      sessionctl bench
      sessionctl bench --processes 1 --mix turn --plot
      sessionctl bench --in-flight 200 --seconds 30 -- --batch-max-requests 500
      sessionctl bench --database ~/.hermes/state.db --mix search --json
    """
    from sessiond_client.bench import run, text

    named = asked.database is not None or asked.socket is not None
    if named and (serve_options or folder):
        raise click.UsageError("--folder and options for serve need a daemon that is started here")
    settings = _settings(chosen, "bench-" + secrets.token_hex(4) + "-" if named else "")
    texts = _texts(text.from_file, text_file) if text_file else text.built_in(settings.seed)
    with contextlib.ExitStack() as stack:
        if named:
            target = _named(asked, reads)
            stack.callback(run.clear, target, settings)
        else:
            target = stack.enter_context(_scratch(folder, reads, serve_options))
        if output.is_terminal() and not as_json:
            stack.enter_context(output.console().status(_what(settings)))
        measured = run.measure(target, settings, texts)
    if as_json:
        output.print_json(measured.figures)
    else:
        _print(measured, plot)
    click.get_current_context().exit(FAILED if measured.figures["failed"] else 0)


def _settings(chosen: dict[str, Any], session_prefix: str) -> "Settings":
    from sessiond_client.bench.operations import Mix
    from sessiond_client.bench.run import Settings
    from sessiond_client.bench.workers import LONGEST_SECONDS

    longest = DEFAULT_SECONDS if chosen["count"] is None else LONGEST_SECONDS
    values = chosen | {
        "mix": Mix(chosen["mix"]),
        "seconds": chosen["seconds"] or longest,
        "run": session_prefix,
    }
    settings = Settings(**values)
    if settings.mix is Mix.TRANSCRIPT and not settings.stored_before:
        raise click.UsageError("the transcript mix reads stored messages, --stored 0 leaves none")
    return settings


def _texts(read: Any, path: Path) -> list[str]:
    try:
        texts: list[str] = read(path)
    except ValueError as error:
        raise Refused(str(error), os.EX_DATAERR) from error
    return texts


def _named(asked: Asked, reads: Any) -> "Target":
    from sessiond_client.bench.store import Target
    from sessiond_protocol import paths

    database = Path(paths.resolve_database(asked.database, os.environ))
    return Target(database, Path(asked.socket) if asked.socket else None, reads)


@contextlib.contextmanager
def _scratch(folder: Path | None, reads: Any, options: tuple[str, ...]) -> Iterator["Target"]:
    """A daemon on a new database, on a real disk if nothing else was asked for."""
    import dataclasses

    from sessiond_client.bench.daemon import DidNotStart, scratch_daemon

    # Not the folder for temporary files: it is often memory, where a sync costs nothing.
    place = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sessiond"
    place.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="bench-", dir=place))
    try:
        with scratch_daemon(made, options) as target:
            yield dataclasses.replace(target, reads=reads)
    except DidNotStart as error:
        raise Refused(f"the daemon did not start: {error}", os.EX_UNAVAILABLE) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _what(settings: "Settings") -> str:
    bound = f"{settings.count} operations" if settings.count else f"{settings.seconds:g} s"
    return (
        f"{settings.mix.value}, {units.plural(settings.processes, 'process')},"
        f" {settings.in_flight} in flight, {bound}"
    )


# --- what is printed -----------------------------------------------------------------------


def _print(measured: "Measured", plot: bool) -> None:
    found = measured.figures
    output.print_facts(_facts(found))
    click.echo()
    output.print_table(_WORKER_COLUMNS, [_worker_row(each, found) for each in found["workers"]])
    if plot:
        from sessiond_client.cli.plot import histogram

        click.echo()
        for line in histogram(measured.latencies, output.console().width):
            click.echo(line)


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    daemon, operations = found["daemon"], found["operations"]
    latency = found["latency_ms"]
    facts = [
        ("work", f"{found['mix']}, {found['processes']} processes,"
                 f" {found['in_flight']} in flight each, {found['seconds']:.1f} s"),
        ("throughput", f"{units.count(found['operations_per_second'])} operations"
                       f" and {units.count(found['messages_per_second'])} messages a second"),
        ("latency", ", ".join(f"{name} {units.milliseconds(value / 1000)}"
                              for name, value in latency.items()) or "nothing was answered"),
        ("slowest process", f"{found['slowest_share']:.0%} of the mean"),
        ("transactions", _transactions(daemon)),
        ("daemon", _daemon_use(daemon, operations)),
        ("clients", f"{_micros(found['cpu_seconds'], operations)} of processor time an operation"),
    ]  # fmt: skip
    if found["failed"]:
        facts.append(("failed", f"{units.count(found['failed'])}, first: {found['first_failure']}"))
    return facts


def _transactions(daemon: dict[str, Any]) -> str:
    if not daemon["batches"]:
        return "none"
    sizes = daemon["batch_size"]
    spread = ", ".join(f"{units.count(n)} of up to {size}" for size, n in sizes["up_to"].items())
    return f"{units.count(daemon['batches'])}, on average {sizes['mean']:.1f} writes ({spread})"


def _daemon_use(daemon: dict[str, Any], operations: int) -> str:
    parts = [f"{units.size(daemon['max_resident_bytes'])} of memory at most"]
    if daemon["cpu_seconds"] is not None:
        parts.insert(0, f"{_micros(daemon['cpu_seconds'], operations)} of processor time"
                        " an operation")  # fmt: skip
    return ", ".join(parts)


def _micros(seconds: float, operations: int) -> str:
    return f"{seconds / (operations or 1) * 1e6:,.0f} µs"


_WORKER_COLUMNS: Final = (
    output.Column("PROCESS", right=True),
    output.Column("OPERATIONS", right=True),
    output.Column("SHARE", right=True),
    output.Column("SLOWEST", right=True),
)


def _worker_row(worker: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    share = worker["operations"] / (found["operations"] or 1)
    slowest = worker["slowest_ms"]
    return (
        str(worker["worker"]),
        units.count(worker["operations"]),
        f"{share:.1%}",
        "" if slowest is None else units.milliseconds(slowest / 1000),
    )
