"""``sessionctl metrics``."""

import click

from sessiond_client.cli.connect import ask, opened
from sessiond_client.cli.options import Asked, pass_asked, place_options
from sessiond_protocol.requests.server import ServerStats


@click.command("metrics")
@place_options
@pass_asked
def command(asked: Asked) -> None:
    """Print the daemon's metrics as Prometheus reads them.

    The daemon serves the same text over HTTP where metrics_listen is set.

    \b
    Examples:
      sessionctl metrics
      sessionctl metrics | grep commit_seconds
      sessionctl metrics > /var/lib/node_exporter/sessiond.prom
    """
    from sessiond_protocol.metrics import render

    with opened(asked, autostart=False) as db:
        stats = ask(db, ServerStats())
    click.echo(render(stats).decode(), nl=False)
