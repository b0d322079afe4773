"""Asking before something is deleted."""

import os
import sys

import click

from sessiond_client.cli.exits import Refused


def confirm(question: str, *, yes: bool) -> None:
    """Ask unless ``yes``. Where nobody can answer, refuse and name ``--yes``."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} Nobody can answer here; --yes does it unasked", os.EX_USAGE)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # what is said of it shall not stand behind the question
        raise
    if not agreed:
        raise Refused("nothing was changed", 1)
