"""``sessionctl status``."""

import os
import pwd
import time
from collections.abc import Mapping
from typing import Any

import click

from sessiond_client._errors import Timeout, Unavailable
from sessiond_client._place import Place
from sessiond_client.cli import output, units
from sessiond_client.cli.connect import check_exists, check_served, last_word, opened, place_of
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options
from sessiond_protocol import paths, state_file
from sessiond_protocol.health import troubles


@click.command("status")
@json_option
@place_options
@pass_asked
def command(asked: Asked, as_json: bool) -> None:
    """Say how the daemon fares and who is connected.

    Never starts one: without a daemon this says so and ends with 69.

    \b
    Examples:
      sessionctl status
      sessionctl status --database ~/agents/state.db
      sessionctl status --json | jq .pid
    """
    place = place_of(asked)
    try:
        if place.socket is None:
            check_exists(place)
        check_served(place)
    except Refused:
        if as_json:
            output.print_json(absent(place))
        raise
    stats = answer(asked, place)
    files = file_sizes(str(stats.get("database", place.database)))
    if as_json:
        output.print_json({"running": True, **stats, **files})
        return
    now = time.time()
    output.print_facts(facts({**stats, **files}, now))
    if stats.get("clients"):
        click.echo()
        output.print_table(CLIENT_COLUMNS, [client_row(each, now) for each in stats["clients"]])


def answer(asked: Asked, place: Place) -> dict[str, Any]:
    """The daemon's statistics; refuses with what is known of one that only accepts."""
    try:
        with opened(asked, autostart=False) as db:
            return db.get_stats()
    except (Timeout, Unavailable) as error:
        left = last_word(place)
        raise Refused(
            f"the daemon of {place.database} accepts connections but did not answer within"
            f" {asked.timeout:g} s" + (f" ({left})" if left else ""),
            os.EX_TEMPFAIL,
        ) from error


def absent(place: Place) -> dict[str, Any]:
    """What ``--json`` says when no daemon answers."""
    state = state_file.read(paths.state_file(place.database))
    return {
        "running": False,
        "database": place.database,
        "state": state.state.value if state else None,
        "message": last_word(place),
        **file_sizes(place.database),
    }


def file_sizes(database: str) -> dict[str, int | None]:
    """Bytes of the database and of its write-ahead log; None where they cannot be seen."""
    return {
        "database_bytes": _size(database),
        "log_bytes": _size(f"{database}-wal"),
    }


def _size(path: str) -> int | None:
    # Only by name: a process that opens and closes the file drops the locks it holds on it.
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def facts(stats: Mapping[str, Any], now: float) -> list[tuple[str, str]]:
    """The lines above the table of clients."""
    state = str(stats["state"])
    return [
        ("daemon", f"sessiond {stats['version']}, pid {stats['pid']}, {state}"
                   f" for {units.duration(now - stats['started'])}"),
        ("socket", str(stats["socket"])),
        ("database", str(stats["database"])),
        ("holds", f"{units.plural(stats['sessions'], 'session')},"
                  f" {units.plural(stats['messages'], 'message')}"),
        ("size", _shown_size(stats["database_bytes"])
                 + f", write-ahead log {_shown_size(stats['log_bytes'])}"),
        ("checkpoint", checkpoint(stats.get("checkpoint"), age(stats))),
        ("readers", readers(stats.get("readers"))),
        ("health", "; ".join(troubles(stats)) or "good"),
        ("index", index(stats.get("index"))),
        ("care", care(stats.get("care"), now)),
        ("waiting", f"{units.plural(stats['pending_writes'], 'write')}"),
        ("clients", units.count(stats["connections"])),
    ]  # fmt: skip


def _shown_size(amount: int | None) -> str:
    return "none" if amount is None else units.size(amount)


def age(stats: Mapping[str, Any]) -> float | None:
    """Seconds since the last checkpoint, None if it is not known."""
    found = stats.get("checkpoints", {}).get("age")
    return float(found) if found is not None else None


def checkpoint(last: Mapping[str, Any] | None, age: float | None = None) -> str:
    """What came of the last checkpoint; its figures are pages of the log."""
    if not last or not (last["log"] or last["checkpointed"]):
        return "none was needed yet"
    text = f"{units.count(last['checkpointed'])} of {units.plural(last['log'], 'page')} moved"
    if age is not None:
        text += f" {units.duration(age)} ago"
    return f"{text}, a reader holds up the rest" if last["busy"] else text


def readers(found: Mapping[str, Any] | None) -> str:
    """Who reads through the log now; the oldest keeps most of it from being emptied."""
    if not found or not found["count"]:
        return "none"
    oldest = found["oldest"]
    text = f"{units.count(found['count'])}, the oldest {oldest['process']}"
    if oldest["frame"] is not None:
        text += f" at page {units.count(oldest['frame'])} of the log"
    return text


def index(found: Mapping[str, Any] | None) -> str:
    """The search index's state."""
    if not found:
        return "not known yet"
    behind = found.get("pairs_behind") or 0
    text = str(found["state"])
    return f"{text}, {units.plural(behind, 'message')} behind" if behind else text


def care(found: Mapping[str, Any] | None, now: float) -> str:
    """What was done between batches since the start."""
    if not found:
        return "none yet"
    kept, ran = found["retention"], found["optimize"]
    parts = [f"statistics updated {units.ago(ran['last'], now)}" if ran["last"] else "",
             units.plural(found["merges"], "merge") if found["merges"] else ""]  # fmt: skip
    if kept["days"]:
        of = f" of {', '.join(kept['sources'])}" if kept["sources"] else ""
        parts.append(
            f"deleted {units.plural(kept['deleted'], 'session')} older than {kept['days']:g} days"
            f"{of}" + (f", the last {units.ago(kept['last'], now)}" if kept["last"] else "")
        )
    else:
        parts.append("old sessions are kept")
    return "; ".join(filter(None, parts))


CLIENT_COLUMNS = (
    output.Column("PID", right=True),
    output.Column("USER", most=16),
    output.Column("PROGRAM", flexible=True),
    output.Column("CONNECTED", right=True),
    output.Column("REQUESTS", right=True),
    output.Column("WAITING", right=True),
)


def client_row(client: Mapping[str, Any], now: float) -> tuple[str, ...]:
    """One connection's line."""
    return (
        str(client["pid"] or "?"),
        user_name(client["uid"]),
        output.one_line(str(client["program"] or "?")),
        units.ago(client["since"], now),
        units.count(client["requests"]),
        units.count(client["pending"]),
    )


def user_name(uid: int | None) -> str:
    """The name of a user id, or the id where it has none."""
    if uid is None:
        return "?"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
