"""Options that all commands share. They work before and after the command's name."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from sessiond_client.cli.exits import Refused, status_of_file

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TIMEOUT: Final = 30.0


@dataclass(slots=True)
class Asked:
    """What the command line says of the daemon to talk to."""

    database: str | None = None
    socket: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    debug: bool = False


pass_asked = click.make_pass_decorator(Asked, ensure=True)


class Existing(click.Path):
    """A path that is there and may be read, or ``-`` where that is allowed.

    Refused with the status of the system's error: the command line is right, the file is not.
    """

    def convert(
        self,
        value: "str | os.PathLike[str]",
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        if not (self.allow_dash and value == "-"):
            try:
                os.stat(value)
                if not os.access(value, os.R_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            except OSError as error:
                raise Refused(
                    f"{os.fspath(value)}: {error.strerror}", status_of_file(error)
                ) from error
        return super().convert(value, param, ctx)


def _note(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Remember an option where subcommands find it; the later one counts."""
    asked = ctx.ensure_object(Asked)
    if value is not None and value is not False:
        setattr(asked, str(param.name), value)


def place_options(command: F) -> F:
    """``--database``, ``--socket``, ``--timeout`` and ``--debug``, kept in an :class:`Asked`."""
    for flag, rest in reversed(_PLACE):
        command = click.option(flag, expose_value=False, callback=_note, **rest)(command)
    return command


_PLACE: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("--database", {"metavar": "PATH", "help": "The database file.",
                    "type": str}),
    ("--socket", {"metavar": "PATH", "help": "Where its daemon listens, if not as usual.",
                  "type": str}),
    ("--timeout", {"metavar": "SECONDS", "type": click.FloatRange(min=0, min_open=True, max=1800),
                   "help": f"How long to wait.  [default: {DEFAULT_TIMEOUT:g}]"}),
    ("--debug", {"is_flag": True, "help": "Show the traceback of an error."}),
)  # fmt: skip


def json_option(command: F) -> F:
    """``--json``: the command's argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def yes_option(command: F) -> F:
    """``--yes``: the command's argument ``yes``."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)


def page_options(default: int | None) -> Callable[[F], F]:
    """``--limit`` and ``--offset``."""

    def add(command: F) -> F:
        shown = f"  [default: {default}]" if default is not None else ""
        count = click.IntRange(min=0)
        command = click.option(
            "--offset", type=count, default=0, metavar="N", help="Skip the first N."
        )(command)
        return click.option(
            "--limit", "-n", type=count, default=default, metavar="N",
            help=f"Print at most N.{shown}",
        )(command)  # fmt: skip

    return add
