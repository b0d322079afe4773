"""``sessiond restore``: a backup put in the place of a database that nobody serves."""

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

import click
import msgspec

from sessiond import settings
from sessiond.setting_values import BadSetting
from sessiond.sqlite.refusal import OpenRefused
from sessiond.sqlite.restore import Restored, restore
from sessiond.sqlite.taking import AlreadyServed
from sessiond_protocol import paths

EX_USAGE: Final = 64
EX_CONFIG: Final = 78
DECLINED: Final = 1


@click.command("restore")
@click.argument("backup")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="SESSIOND_CONFIG",
    help="a TOML file with settings, of which database is used",
)
@click.option("--database", metavar="PATH", help=settings.specs()["database"][0].help)
@click.option(
    "--allow-network-fs",
    is_flag=True,
    default=None,
    help="put it on a network file system, whose locks may lie",
)
@click.option("-y", "--yes", is_flag=True, help="do not ask")
@click.option("--json", "as_json", is_flag=True, help="say in JSON what was done")
def command(
    backup: str,
    config: Path | None,
    database: str | None,
    allow_network_fs: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Put a backup in the database's place, while no daemon serves it.

    The backup is checked and copied, never changed; older versions are brought up to date in
    the copy. The database before is kept beside it. While a daemon serves the database,
    'sessionctl restore' does the same through it.

    \b
    Examples:
      sessiond restore ~/backups/state-2025-11-20.db
      sessiond restore ./good.db --database ~/agents/state.db --yes
    """
    try:
        flags = {"database": database, "allow_network_fs": allow_network_fs}
        content = config.read_bytes() if config is not None else None
        chosen = settings.load(flags, os.environ, content, str(config))[0]
        path = paths.resolve_database(chosen.database, os.environ)
    except BadSetting as error:
        _fail(EX_CONFIG, str(error))
    except ValueError as error:
        _fail(EX_USAGE, str(error))
    if not os.path.exists(backup):
        _fail(os.EX_NOINPUT, f"{backup} does not exist")
    _confirm(backup, path, yes=yes)
    try:
        done = restore(
            os.path.abspath(backup),
            path,
            patience=chosen.start_timeout,
            allow_network_fs=chosen.allow_network_fs,
            progress=_show if sys.stderr.isatty() else lambda _step, _fraction: None,
        )
    except OpenRefused as refused:
        _fail(refused.exit_status, refused.message)
    except AlreadyServed as served:
        _fail(served.exit_status, f"{served}; 'sessionctl restore' restores through it")
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
        return
    for line in _told(done):
        click.echo(line)


def _confirm(backup: str, path: str, *, yes: bool) -> None:
    """Ask before something is replaced. Where nobody can answer, refuse and name ``--yes``."""
    if yes or not os.path.exists(path):
        return
    question = f"Replace {path} with {backup}? The database before is kept."
    if not sys.stdin.isatty():
        _fail(EX_USAGE, f"{question} Nobody can answer here; --yes does it unasked")
    if not click.confirm(question, err=True):
        _fail(DECLINED, "nothing was changed")


def _show(step: str, fraction: float) -> None:
    """One line that is written over, for whoever watches."""
    click.echo(f"\r\x1b[K{step}: {fraction:.0%}\r", err=True, nl=False)


def _told(done: Restored) -> list[str]:
    version = (
        f", brought from version {done.from_version} to {done.version}"
        if done.from_version != done.version
        else ""
    )
    lines = [
        f"restored {done.database} from {done.backup}:"
        f" {_count(done.sessions, 'session')}, {_count(done.messages, 'message')}{version}"
    ]
    if done.kept is not None:
        lines.append(f"the database before is kept in {done.kept}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _fail(status: int, message: str) -> NoReturn:
    click.echo(f"sessiond: {message}", err=True)
    sys.exit(status)
