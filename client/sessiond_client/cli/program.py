"""The ``sessionctl`` command: its subcommands, found by name, and how it ends."""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click
from click.shell_completion import shell_complete

from sessiond_client.cli import exits, termination
from sessiond_client.cli.options import place_options
from sessiond_protocol.errors import SessiondError

# Command to module: a module is imported when its command, or the list of all, is wanted.
COMMANDS: Final[dict[str, str]] = {
    "status": "status",
    "list": "list",
    "show": "show",
    "tail": "tail",
    "search": "search",
    "export": "export_sessions",
    "import": "import_sessions",
    "rename": "rename",
    "end": "end",
    "delete": "delete",
    "prune": "prune",
    "backup": "backup",
    "restore": "restore",
    "check": "check",
    "reindex": "reindex",
    "checkpoint": "checkpoint",
    "vacuum": "vacuum",
    "stats": "stats",
    "top": "top",
    "metrics": "metrics",
    "config": "config",
    "stop": "stop",
    "install": "install",
    "uninstall": "uninstall",
    "completion": "completion",
    "torture": "torture",
    "bench": "bench",
}

# What people type who have other tools in their fingers.
_OTHER_NAMES: Final[dict[str, str]] = {
    "ls": "list",
    "sessions": "list",
    "cat": "show",
    "get": "show",
    "follow": "tail",
    "watch": "tail",
    "find": "search",
    "grep": "search",
    "info": "status",
    "ps": "status",
    "htop": "top",
    "vmstat": "top",
    "rm": "delete",
    "remove": "delete",
    "mv": "rename",
    "title": "rename",
    "dump": "export",
    "copy": "backup",
    "cp": "backup",
    "fsck": "check",
    "verify": "check",
    "repair": "check",
    "rebuild": "reindex",
    "compact": "vacuum",
    "load": "import",
    "settings": "config",
    "kill": "stop",
    "quit": "stop",
    "shutdown": "stop",
}

_OF_THE_DAEMON: Final = frozenset({"daemon", "run", "serve", "start"})


class Program(click.Group):
    """A group whose commands are imported by name, and that suggests the one that was meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = importlib.import_module(f"sessiond_client.cli.commands.{module}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"no such command {name!r}{suggestion(name)}", ctx)


def suggestion(name: str) -> str:
    """``, did you mean 'list'?`` for a mistyped command; empty if nothing is close."""
    wanted = name.lower()
    if wanted in _OF_THE_DAEMON:
        return ", did you mean 'sessiond serve'? programs start it by themselves"
    meant = [_OTHER_NAMES[wanted]] if _OTHER_NAMES.get(wanted) in COMMANDS else []
    meant = meant or difflib.get_close_matches(wanted, COMMANDS, 2, 0.8)
    meant = meant or difflib.get_close_matches(wanted, COMMANDS, 1, 0.5)
    return _meant(meant)


def _meant(names: Sequence[str]) -> str:
    return f", did you mean {' or '.join(map(repr, names))}?" if names else ""


def _version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"sessionctl {version('sessiond')}")
        ctx.exit()


@click.command(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version,
    help="Show the version and exit.",
)  # fmt: skip
@place_options
def program() -> None:
    """Look at and care for an agent's session database.

    The database is what --database names, else SESSIOND_DATABASE, else state.db in HERMES_HOME,
    else ~/.hermes/state.db.

    \b
    Examples:
      sessionctl status
      sessionctl list --source telegram
      sessionctl show 20251121_06
      sessionctl search '"good morning" NOT tea*'

    Completion: eval "$(sessionctl completion bash)", likewise for zsh; see completion --help.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``sessionctl`` and leave with its exit status."""
    termination.heed()
    status = run(arguments)
    sys.exit(exits.TERMINATED if termination.came() else status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run ``sessionctl``; the exit status. Whatever goes wrong is one line, no traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    _open_what_is_closed()
    try:
        for stream in (sys.stdout, sys.stderr):
            _print_anything(stream)
        status = _run(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        return _nobody_reads()
    except click.ClickException as error:
        return _complain(error, words)
    except SessiondError as error:
        _debug(words)
        return _say(error.message, exits.status_of(error))
    except (KeyboardInterrupt, click.Abort):
        return _say("terminated" if termination.came() else "interrupted", exits.INTERRUPTED)
    except OSError as error:
        _debug(words)
        _drop(1)
        return _say(_of_file(error), exits.status_of_file(error))
    except Exception as error:  # noqa: BLE001 (nobody shall see a traceback unasked)
        _debug(words)
        what = f"{type(error).__name__}: {error}".replace("\n", " ")
        return _say(f"{what} (run with --debug for the traceback)", os.EX_SOFTWARE)


def _run(words: list[str]) -> int:
    """Carry out the command, or answer a shell that completes one.

    Not by click's ``main``: that ends with 1 when a pipe is closed.
    """
    completion = os.environ.get("_SESSIONCTL_COMPLETE")
    if completion:
        return shell_complete(program, {}, "sessionctl", "_SESSIONCTL_COMPLETE", completion)
    try:
        with program.make_context("sessionctl", words) as context:
            result = program.invoke(context)
            return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code


def _complain(error: click.ClickException, words: Sequence[str]) -> int:
    message = error.format_message()
    if isinstance(error, exits.Refused):
        return _say(message, error.status)
    if not isinstance(error, click.UsageError):
        return _say(message, error.exit_code)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(message, err=True)
        return os.EX_USAGE
    path = error.ctx.command_path if error.ctx else _path(words)
    if isinstance(error, click.NoSuchOption):
        message = f"no such option {error.option_name!r}{_meant(error.possibilities or ())}"
    return _say(f"{_plain(message)}; try '{path} --help'", os.EX_USAGE)


def _path(words: Sequence[str]) -> str:
    """The command that was meant, where click does not say."""
    return " ".join(["sessionctl", *[word for word in words if word in COMMANDS][:1]])


def _plain(message: str) -> str:
    """A message of click's in the form of all others: lower case, no full stop at its end."""
    return message[:1].lower() + message[1:].rstrip(".")


def _say(message: str, status: int) -> int:
    try:
        click.echo(f"sessionctl: {message}", err=True)
    except OSError:
        _drop(2)
    return status


def _of_file(error: OSError) -> str:
    where = error.filename if error.filename is not None else "the output"
    return f"{where}: {error.strerror or error}"


def _debug(words: Sequence[str]) -> None:
    if "--debug" in words:
        import traceback

        traceback.print_exc()


def _open_what_is_closed() -> None:
    """Standard streams that whoever started this had closed lead nowhere.

    Left closed, the next file that is opened would get their number, and what is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _print_anything(stream: Any) -> None:
    """Characters that the terminal's encoding lacks are shown as escapes."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _nobody_reads() -> int:
    """A pipe that was closed early, as by ``head``, is no error."""
    _drop(1)
    return 0


def _drop(descriptor: int) -> None:
    """What Python still flushes there at its end goes nowhere, quietly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
