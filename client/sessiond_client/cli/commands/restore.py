"""``sessionctl restore``."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sessiond_client._place import Place
from sessiond_client.cli import output, units
from sessiond_client.cli.confirm import confirm
from sessiond_client.cli.connect import is_served, opened, place_of
from sessiond_client.cli.options import (
    Asked,
    Existing,
    json_option,
    pass_asked,
    place_options,
    yes_option,
)


@click.command("restore")
@click.argument("file", type=Existing(dir_okay=False, path_type=Path))
@yes_option
@json_option
@place_options
@pass_asked
def command(asked: Asked, file: Path, yes: bool, as_json: bool) -> int:
    """Put a backup in the database's place.

    While a daemon serves the database it is done there, in one transaction for which everybody
    waits; else by 'sessiond restore'. The backup is checked and copied, never changed. The
    database before is kept beside it.

    \b
    Examples:
      sessionctl restore ~/backups/state-2025-11-20.db
      sessionctl restore ./good.db --database ~/agents/state.db --yes
    """
    place = place_of(asked)
    backup = os.path.abspath(file)
    if os.path.exists(place.database):
        confirm(f"Replace {place.database} with {backup}? The database before is kept.", yes=yes)
    if not is_served(place):
        return offline(place, backup, as_json=as_json)
    with opened(asked, autostart=False) as db:
        done = db.restore(backup, progress=show if output.redraws(sys.stderr) else None)
    if as_json:
        told = {name: value for name, value in done.items() if name != "path"}
        output.print_json({"database": place.database, "backup": backup, **told})
    else:
        for line in lines(place, backup, done):
            click.echo(line)
    return 0


def offline(place: Place, backup: str, *, as_json: bool) -> int:
    """Have ``sessiond restore`` do it; its exit status. What it prints is printed."""
    words = [sys.executable, "-P", "-m", "sessiond", "restore", backup]
    words += ["--database", place.database, "--yes", *(["--json"] if as_json else [])]
    sys.stdout.flush()
    return subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode


def show(state: Mapping[str, Any]) -> None:
    """One line that is written over, for whoever watches."""
    done = "" if state["fraction"] is None else f" {state['fraction']:.0%}"
    shown = f"{state['step']}{done}" if state["state"] == "running" else ""
    click.echo(f"\r\x1b[K{shown}\r", err=True, nl=False)


def lines(place: Place, backup: str, done: Mapping[str, Any]) -> list[str]:
    """What was done, for people."""
    versions = done["from_version"], done["version"]
    upgraded = f", brought from version {versions[0]} to {versions[1]}"
    return [
        f"restored {place.database} from {backup}: {units.plural(done['sessions'], 'session')},"
        f" {units.plural(done['messages'], 'message')}"
        f"{upgraded if versions[0] != versions[1] else ''}",
        f"the database before is kept in {done['kept']}",
    ]
