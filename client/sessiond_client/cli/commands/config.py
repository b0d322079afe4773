"""``sessionctl config``."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import click

from sessiond_client._place import Place
from sessiond_client.cli import output
from sessiond_client.cli.connect import (
    database_path,
    is_served,
    last_word,
    opened,
    place_of,
)
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options
from sessiond_protocol import paths, state_file
from sessiond_protocol.errors import SessiondError


@dataclass(frozen=True, slots=True)
class Chosen:
    """A value and where it came from."""

    value: str
    origin: str


@click.command("config", short_help="Say which database, socket and settings are meant, and why.")
@json_option
@place_options
@pass_asked
def command(asked: Asked, as_json: bool) -> None:
    """Say which database and socket are meant, and where each came from.

    Of a daemon that answers also its settings, with the flag, variable or file that each came
    from. Never starts a daemon.

    \b
    Examples:
      sessionctl config
      HERMES_HOME=~/agents sessionctl config --json
    """
    place = place_of(asked)
    shown = {
        "database": Chosen(database_path(asked), database_origin(asked.database, os.environ)),
        "file": Chosen(place.database, "the database, symbolic links followed"),
        "state file": Chosen(paths.state_file(place.database), "beside the file"),
        "socket": socket(place, asked.socket),
    }
    served = is_served(place)
    daemon = "answers" if served else last_word(place) or "does not answer"
    settings = settings_of(asked) if served else None
    if as_json:
        values = {name.replace(" ", "_"): asdict(each) for name, each in shown.items()}
        output.print_json({**values, "daemon": daemon, "settings": settings})
        return
    facts = [(name, f"{each.value}\nfrom: {each.origin}") for name, each in shown.items()]
    output.print_facts([*facts, ("daemon", daemon)])
    if settings:
        click.echo()
        rows = [(name, each["value"], each["origin"]) for name, each in settings.items()]
        output.print_table(SETTING_COLUMNS, rows)


SETTING_COLUMNS = (
    output.Column("SETTING"),
    output.Column("VALUE", flexible=True),
    output.Column("FROM", most=30),
)


def settings_of(asked: Asked) -> dict[str, dict[str, str]] | None:
    """The settings of the daemon that answers, by name; None if it does not tell them."""
    try:
        with opened(asked, autostart=False) as db:
            found: dict[str, dict[str, str]] | None = db.get_stats().get("settings")
    except SessiondError as error:
        output.note(f"it does not tell its settings: {error}")
        return None
    return found


def database_origin(argument: str | None, environ: Mapping[str, str]) -> str:
    """What chose the database, by the same order as :func:`paths.resolve_database`."""
    if argument is not None:
        return "--database"
    for name in ("SESSIOND_DATABASE", "HERMES_HOME"):
        if environ.get(name):
            return name
    return "default"


def socket(place: Place, argument: str | None) -> Chosen:
    """The socket that is tried first, and what chose it."""
    if place.socket is not None:
        return Chosen(place.socket, "SESSIOND_SOCKET" if argument is None else "--socket")
    found = state_file.read(paths.state_file(place.database))
    if found is not None and found.socket:
        return Chosen(found.socket, f"the state file of pid {found.pid}, {found.state}")
    return Chosen(paths.usual_socket(place.database, os.geteuid()), "the usual place")
