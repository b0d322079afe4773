"""The ``sessiond`` command."""

import asyncio
import dataclasses
import faulthandler
import gc
import grp
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from sessiond import cli_restore, logs, settings
from sessiond.background import Background
from sessiond.listener import Listener, turn_away
from sessiond.live_settings import LiveSettings
from sessiond.notify import Notifier, inherited_sockets, watchdog_interval
from sessiond.settings import BadSetting, Settings
from sessiond.sqlite.access import CrashPoint
from sessiond.sqlite.checkpoint import CheckpointLimits
from sessiond.sqlite.keeper import Keeper
from sessiond.sqlite.refusal import OpenRefused
from sessiond.sqlite.taking import AlreadyServed
from sessiond.version import VERSION
from sessiond_protocol import paths

log = logging.getLogger("sessiond")

EX_USAGE: Final = 64
EX_CANTCREAT: Final = 73
EX_CONFIG: Final = 78

_COLLECT_AFTER: Final = 100_000  # objects that are still there

_PATHS: Final = ("database", "socket", "log_file")

F = TypeVar("F", bound=Callable[..., Any])


def _options(command: F) -> F:
    """One option for each setting, its help from the setting's own text."""
    for name, (spec, default) in reversed(settings.specs().items()):
        given = default is not None and default is not False and default != ()
        shown = f"{spec.help}  [default: {settings.shown(spec, default)}]" if given else spec.help
        flag = f"--{name.replace('_', '-')}"
        if spec.kind == "flag":
            command = click.option(flag, name, is_flag=True, default=None, help=shown)(command)
        elif spec.kind == "choice":
            kind = click.Choice(spec.choices)
            command = click.option(flag, name, type=kind, help=shown)(command)
        elif spec.kind == "list":
            command = click.option(flag, name, multiple=True, metavar="ID", help=shown)(command)
        elif spec.kind == "texts":
            command = click.option(flag, name, multiple=True, metavar="TEXT", help=shown)(command)
        else:
            metavar = spec.kind.upper()
            command = click.option(flag, name, metavar=metavar, help=shown)(command)
    return command


class _Program(click.Group):
    """A command line whose usage errors read like every other error: one line, status 64."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run; never returns."""
        extra["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **extra))
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(EX_USAGE)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "sessiond"
            text = error.format_message().rstrip(".").replace(". Did you", ", did you")
            _fail(EX_USAGE, f"{text[:1].lower()}{text[1:]}; try '{path} --help'")
        except click.Abort:
            click.echo("sessiond: interrupted", err=True)
            sys.exit(128 + signal.SIGINT)


@click.group(
    cls=_Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="sessiond", message="%(prog)s %(version)s")
def main() -> None:
    """The daemon that owns an agent's session database."""


main.add_command(cli_restore.command)


@main.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="SESSIOND_CONFIG",
    help="a TOML file with settings",
)
@click.option("--detach", is_flag=True, help="go to the background once clients are served")
@_options
def serve(config: Path | None, detach: bool, **flags: Any) -> None:
    """Serve a database on a Unix socket, until SIGTERM or SIGINT.

    \b
    Every option can also be set in the environment (--pool-size is
    SESSIOND_POOL_SIZE) or in the file that --config names (pool_size = 8).
    Flags win over the environment, and that over the file. Sizes take KiB, MiB,
    GiB; times take ms, s, min, h.

    \b
    Examples:
      sessiond serve
      sessiond serve --database ~/agents/state.db --durability normal
    """

    config = config.absolute() if config is not None else None  # SIGHUP reads it from elsewhere

    def effective() -> tuple[Settings, dict[str, str]]:
        content = config.read_bytes() if config is not None else None
        found, origins = settings.load(flags, os.environ, content, str(config))
        if found.database is None and os.environ.get("HERMES_HOME"):
            origins["database"] = "HERMES_HOME"
        return _absolute(found), origins

    try:
        live = LiveSettings(effective)
        chosen = live.now
        flags.update({name: getattr(chosen, name) for name in _PATHS if flags[name] is not None})
        _make_usual_home(chosen)
        background = Background(chosen.log_file)
        if detach:
            status = background.fork(chosen.start_timeout)
            if status is not None:
                sys.exit(status)
        logs.start(chosen.log_level, chosen.log_format, os.environ, chosen.log_file)
        background.show_errors()
    except BadSetting as error:
        _fail(EX_CONFIG, str(error))
    except OSError as error:
        _fail(EX_CONFIG, f"{error.filename or config}: {error.strerror}")
    except ValueError as error:
        _fail(EX_CANTCREAT, f"cannot listen: {error}")
    sys.exit(run(live, background))


def run(
    live: LiveSettings, background: Background, crash_point: CrashPoint = lambda _: None
) -> int:
    """Serve with these settings; the exit status. For ``crash_point`` see :class:`Keeper`."""
    import uvloop

    from sessiond.app import Daemon

    chosen = live.now
    # A watchdog ends a daemon that hangs with SIGABRT: where it hung is then in the log.
    faulthandler.enable()
    sockets = inherited_sockets(os.environ, os.getpid())
    notifier = Notifier(os.environ.pop("NOTIFY_SOCKET", None))
    watchdog = watchdog_interval(os.environ, os.getpid())
    assert chosen.database is not None
    database = os.path.realpath(chosen.database)
    try:
        keeper = Keeper(
            database,
            durability=chosen.durability,
            cache_bytes=chosen.cache_size,
            lock_timeout=chosen.lock_timeout,
            start_timeout=chosen.start_timeout,
            allow_network_fs=chosen.allow_network_fs,
            checkpoints=CheckpointLimits(chosen.wal_soft_limit, chosen.wal_hard_limit),
            crash_point=crash_point,
        )
        keeper.take()
    except (OpenRefused, AlreadyServed) as refused:
        log.error("%s", refused)
        notifier.send(status=str(refused))
        turn_away(sockets)
        return refused.exit_status
    try:
        listener = _listen(chosen, database, sockets)
    except (OSError, ValueError) as error:
        log.error("cannot listen: %s", error)
        keeper.failed(f"cannot listen: {error}")
        notifier.send(status=f"cannot listen: {error}")
        turn_away(sockets)
        return EX_CANTCREAT
    # What a request leaves is freed by counting references. Left as it is, the collector would go
    # through everything that waits, again and again, and find nothing.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            Daemon(live, keeper, listener, notifier, watchdog, background.ready).run()
        )


def _make_usual_home(chosen: Settings) -> None:
    """The directory of the usual database is made; one that somebody names must exist."""
    usual = paths.resolve_database(None, os.environ)
    if chosen.database == usual:
        os.makedirs(os.path.dirname(usual), mode=0o700, exist_ok=True)


def _absolute(chosen: Settings) -> Settings:
    """Every path made absolute: in the background the working directory is another."""
    log_file = chosen.log_file
    try:
        database = paths.resolve_database(chosen.database, os.environ)
    except ValueError as error:
        raise BadSetting(str(error)) from error
    return dataclasses.replace(
        chosen,
        database=database,
        socket=paths.chosen_socket(chosen.socket, os.environ),
        log_file=None if log_file is None else os.path.abspath(log_file),
    )


def _listen(chosen: Settings, database: str, sockets: list[int]) -> Listener:
    uid = os.geteuid()
    path = chosen.socket or paths.usual_socket(database, uid)
    group = group_id(chosen.socket_group)
    listener = Listener(path, mode=0o600 if group is None else 0o660, group=group)
    if sockets:
        listener.adopt(sockets[0])
        return listener
    if chosen.socket is None:
        paths.make_private(os.path.dirname(path), uid, group)
    listener.bind()
    return listener


def group_id(name: str | None) -> int | None:
    """A group's number, by its name or number. Raises ``ValueError`` if there is none."""
    if name is None:
        return None
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"socket_group {name!r} does not exist") from None


def _fail(status: int, message: str) -> NoReturn:
    turn_away(inherited_sockets(os.environ, os.getpid()))
    click.echo(f"sessiond: {message}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
