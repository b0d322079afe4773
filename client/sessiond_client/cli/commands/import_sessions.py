"""``sessionctl import``."""

import os

import click

from sessiond_client.cli import output
from sessiond_client.cli.connect import opened
from sessiond_client.cli.options import Asked, Existing, json_option, pass_asked, place_options


@click.command("import", short_help="Store sessions from files, in a new database if need be.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...",
                type=Existing(allow_dash=True, path_type=str))  # fmt: skip
@click.option("--replace", is_flag=True,
              help="Replace the messages of sessions that are there.")  # fmt: skip
@json_option
@place_options
@pass_asked
def command(asked: Asked, paths: tuple[str, ...], replace: bool, as_json: bool) -> int:
    """Store sessions from files; a database that does not exist is made.

    PATH is an export (one session a line), a transcript (one message a line, the session's id
    its name), or a gateway's directory of transcripts with its sessions.json. "-" reads an
    export from standard input. Sessions that are there already are left as they are, so that an
    import that was cut short can be repeated. Ends with 65 if something could not be imported.

    \b
    Examples:
      sessionctl import backup.jsonl
      sessionctl import ~/.hermes/sessions
      ssh other sessionctl export | sessionctl import -
    """
    from sessiond_client.cli.import_files import import_path
    from sessiond_client.cli.importer import Importer

    troubles = 0

    def warn(message: str) -> None:
        nonlocal troubles
        troubles += 1
        click.echo(f"sessionctl: {output.printable(message)}", err=True)

    with opened(asked, create=True) as db:
        importer = Importer(db, warn, replace=replace)
        for path in paths:
            import_path(importer, db, path, warn)
        importer.close()
    report = importer.report
    if as_json:
        output.print_json({name: getattr(report, name) for name in report.__slots__})
    else:
        click.echo(report.text())
    return os.EX_DATAERR if troubles else 0
