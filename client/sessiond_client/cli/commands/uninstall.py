"""``sessionctl uninstall``."""

import os

import click

from sessiond_client.cli import installing, unit_files
from sessiond_client.cli.commands.install import below, carry_out, scope_of
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.installing import Step, systemctl
from sessiond_client.cli.options import place_options
from sessiond_client.cli.unit_files import Scope


@click.command("uninstall")
@click.option("--user", is_flag=True, help="From your own service manager.")
@click.option("--system", is_flag=True, help="From the machine; needs root.")
@click.option("--name", metavar="NAME", help="Only the database NAME; the others stay.")
@click.option("--root", metavar="PATH", default="/", help="Remove below PATH and run nothing.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@place_options
def command(user: bool, system: bool, name: str | None, root: str, dry_run: bool) -> None:
    """Stop the daemon and remove what install has written.

    Databases, settings and your own drop-ins stay, and so do the system's user and group.

    \b
    Examples:
      sessionctl uninstall --user --dry-run
      sessionctl uninstall --user --name lab
      sudo sessionctl uninstall --system
    """
    chosen = scope_of(user=user, system=system)
    if name is not None:
        try:
            unit_files.check_name(name)
        except ValueError as error:
            raise Refused(str(error), os.EX_USAGE) from error
    home = os.path.expanduser("~")
    folder = below(root, unit_files.unit_folder(chosen, os.environ, home))
    files = installing.removed(folder, name)
    if chosen is Scope.SYSTEM and name is None:
        files += installing.removed_files(root, unit_files.system_files())
    files = [*installing.links(folder, name), *files]
    if not files:
        click.echo(f"nothing of sessionctl install is in {folder}")
        return
    runs = root == "/" and installing.manager_runs(chosen, os.geteuid())
    carry_out(
        [*stops(chosen, folder, name), *files, *reloads(chosen)] if runs else files,
        dry_run=dry_run,
    )
    if chosen is Scope.SYSTEM and name is None:
        click.echo("the databases in /var/lib/sessiond and the user sessiond are left")


def stops(scope: Scope, folder: str, name: str | None) -> list[Step]:
    """What stops the daemon: the socket first, so that nobody starts it again."""
    if name is not None:
        units = [unit_files.unit_name(name, kind) for kind in ("socket", "service")]
        return [systemctl(scope, "stop", *units)]
    found: list[Step] = [systemctl(scope, "stop", "sessiond@*.socket", "sessiond@*.service")]
    units = [unit_files.unit_name(None, kind) for kind in ("socket", "service")]
    if all(os.path.exists(os.path.join(folder, unit)) for unit in units):
        found.insert(0, systemctl(scope, "stop", *units))
    return found


def reloads(scope: Scope) -> list[Step]:
    """What makes the manager forget the files."""
    return [systemctl(scope, "daemon-reload")]
