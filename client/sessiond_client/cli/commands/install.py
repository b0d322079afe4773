"""``sessionctl install``."""

import os
import pwd
import sys
import sysconfig
from collections.abc import Iterator
from shutil import which
from typing import Final

import click

from sessiond_client.cli import installing, unit_files
from sessiond_client.cli.connect import database_path
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.installing import Execute, Step, systemctl
from sessiond_client.cli.options import Asked, pass_asked, place_options
from sessiond_client.cli.unit_files import Scope, Wanted
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State

# Folders that the hardened system unit does not see.
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")


@click.command("install", short_help="Have systemd start the daemon for whoever connects.")
@click.option("--user", is_flag=True, help="For your own service manager.")
@click.option("--system", is_flag=True, help="For the machine; needs root.")
@click.option("--name", metavar="NAME", help="One of several databases, as sessiond@NAME.")
@click.option("--metrics", metavar="ADDRESS", help="Serve metrics there, as at 127.0.0.1:9464.")
@click.option("--program", metavar="PATH", help="The sessiond to run, if not this one's own.")
@click.option("--now", is_flag=True, help="Enable and start the socket at once.")
@click.option("--force", is_flag=True, help="Write over units that somebody else has written.")
@click.option("--root", metavar="PATH", default="/", help="Write below PATH and run nothing.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@place_options
@pass_asked
def command(
    asked: Asked,
    user: bool,
    system: bool,
    name: str | None,
    metrics: str | None,
    program: str | None,
    now: bool,
    force: bool,
    root: str,
    dry_run: bool,
) -> None:
    """Have systemd start the daemon for whoever connects, and keep it.

    Writes a service and its socket. For the system, also a user sessiond that owns the
    databases in /var/lib/sessiond, and whose group may connect.

    \b
    Examples:
      sessionctl install --user --dry-run
      sessionctl install --user --now
      sessionctl install --user --name lab    # ~/.hermes/profiles/lab/state.db
      sudo sessionctl install --system --metrics 127.0.0.1:9464
    """
    wanted = what_is_wanted(asked, scope_of(user=user, system=system), name, metrics, program)
    home = os.path.expanduser("~")
    folder = below(root, unit_files.unit_folder(wanted.scope, os.environ, home))
    steps = installing.written(folder, unit_files.render(wanted))
    if wanted.scope is Scope.SYSTEM:
        steps += installing.written(root, unit_files.system_files())
    if not force:
        installing.check_ours(steps)
    later: list[Execute] = []
    if root == "/":
        runs = installing.manager_runs(wanted.scope, os.geteuid())
        told, later = orders(wanted, runs=runs, now=now)
        steps += told
    carry_out(steps, dry_run=dry_run)
    for line in advice(wanted, later, root):
        click.echo(line)


def scope_of(*, user: bool, system: bool) -> Scope:
    """The service manager that the command line names."""
    if user == system:
        raise click.UsageError("say --user or --system" + (", not both" if user else ""))
    return Scope.USER if user else Scope.SYSTEM


def below(root: str, path: str) -> str:
    """``path`` as it stands below another root."""
    return os.path.join(root, path.lstrip("/"))


def what_is_wanted(
    asked: Asked, scope: Scope, name: str | None, metrics: str | None, program: str | None
) -> Wanted:
    """The command line as a :class:`Wanted`; refuses what the units cannot do."""
    try:
        checked = None if name is None else unit_files.check_name(name)
        if metrics is not None:
            unit_files.check_address(metrics)
    except ValueError as error:
        raise Refused(str(error), os.EX_USAGE) from error
    found = os.path.abspath(program) if program is not None else own_program()
    if scope is Scope.SYSTEM:
        if asked.database is not None or asked.socket is not None:
            raise Refused(
                "the system's databases lie in /var/lib/sessiond and their sockets in"
                " /run/sessiond; leave --database and --socket away, and name several with --name",
                os.EX_USAGE,
            )
        if program is None:
            check_visible(found)
        return Wanted(scope, found, checked, metrics=metrics)
    database = database_path(asked)
    if checked is not None and asked.database is None:
        database = profile_database(checked)
    return Wanted(scope, found, checked, database, socket_of(asked, database), metrics)


def profile_database(name: str) -> str:
    """The database of an agent's profile, beside the one without a name."""
    without = {key: text for key, text in os.environ.items() if key != "SESSIOND_DATABASE"}
    usual = paths.resolve_database(None, without)
    return os.path.join(os.path.dirname(usual), "profiles", name, "state.db")


def socket_of(asked: Asked, database: str) -> str:
    """Where clients look for the daemon of a user's database, as a unit names it."""
    try:
        chosen = paths.chosen_socket(asked.socket, {})
    except ValueError as error:
        raise Refused(str(error), os.EX_USAGE) from error
    if chosen is not None:
        return chosen.replace("%", "%%")
    name = os.path.basename(paths.usual_socket(database, os.geteuid()))
    return f"%t/sessiond/{name}"


def own_program() -> str:
    """The ``sessiond`` that was installed together with this program."""
    beside = os.path.join(sysconfig.get_path("scripts"), "sessiond")
    found = beside if os.access(beside, os.X_OK) else which("sessiond")
    if found is None:
        raise Refused(
            f"there is no sessiond in {os.path.dirname(beside)} or on the PATH; name it with"
            " --program",
            os.EX_NOINPUT,
        )
    return os.path.abspath(found)


def check_visible(program: str) -> None:
    """Refuse a program that the hardened system unit could not run."""
    for path in (program, os.path.realpath(program), os.path.realpath(sys.executable)):
        for folder in _HIDDEN:
            if path.startswith(f"{folder}/"):
                raise Refused(
                    f"the system's daemon cannot see {path}: its unit hides {folder};"
                    " install sessiond with a Python of the system's, in /opt or /usr/local,"
                    " or name one with --program",
                    os.EX_CONFIG,
                )


def orders(wanted: Wanted, *, runs: bool, now: bool) -> tuple[list[Step], list[Execute]]:
    """What systemd is told now, and what a person is left to tell it."""
    told: list[Step] = []
    if wanted.scope is Scope.SYSTEM:
        told.append(Execute(("systemd-sysusers", "/etc/sysusers.d/sessiond.conf")))
        told.append(Execute(("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/sessiond.conf")))
    enable = systemctl(wanted.scope, "enable", "--now", unit_files.unit_name(wanted.name, "socket"))
    reload = systemctl(wanted.scope, "daemon-reload")
    if not runs:
        return told, [reload, enable]
    return ([*told, reload, enable], []) if now else ([*told, reload], [enable])


def carry_out(steps: list[Step], *, dry_run: bool) -> None:
    """Say each step and take it; with ``dry_run`` only say it."""
    for step in steps:
        click.echo(f"{'would ' if dry_run else ''}{step}")
        if dry_run:
            continue
        failure = step.do(installing.execute)
        if failure is not None:
            raise Refused(f"{step}: {failure}", os.EX_UNAVAILABLE)
    if dry_run:
        click.echo("nothing was changed (--dry-run)")


def advice(wanted: Wanted, later: list[Execute], root: str) -> Iterator[str]:
    """What is left to do."""
    if root != "/":
        yield f"below {root} nothing was told to systemd"
        return
    for order in later:
        yield f"next: {' '.join(order.words)}"
    if wanted.scope is Scope.USER:
        if not os.path.exists(f"/var/lib/systemd/linger/{_user()}"):
            yield "to keep it running while you are logged out: loginctl enable-linger"
        assert wanted.database is not None
        yield from _of_a_running_daemon(wanted.database)
        return
    name = wanted.name or "state"
    folder = "/var/lib/sessiond" + (f"/{wanted.name}" if wanted.name else "")
    yield "whoever may connect: usermod -aG sessiond NAME; their environment:"
    yield f"  SESSIOND_DATABASE={folder}/state.db"
    yield f"  SESSIOND_SOCKET=/run/sessiond/{name}.sock"


def _of_a_running_daemon(database: str) -> Iterator[str]:
    state = state_file.read(paths.state_file(database))
    if state is not None and state.state is State.SERVING and os.path.exists(f"/proc/{state.pid}"):
        yield (
            f"pid {state.pid} serves {database} now; it leaves as soon as the socket is there,"
            f" or stop it yourself: kill {state.pid}"
        )


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
