"""``sessionctl completion``."""

import os
from typing import Final

import click
from click.shell_completion import get_completion_class

from sessiond_client.cli.exits import Refused
from sessiond_client.cli.options import place_options

SHELLS: Final = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False, metavar="[SHELL]")
@place_options
def command(shell: str | None) -> None:
    """Print what makes a shell complete commands and options.

    SHELL is bash, zsh or fish, by default the one that SHELL names. Put the line of the example
    into the shell's start-up file: ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.

    \b
    Examples:
      eval "$(sessionctl completion bash)"
      eval "$(sessionctl completion zsh)"
      sessionctl completion fish | source
    """
    shell = shell or _of_the_user()
    found = get_completion_class(shell)
    assert found is not None
    program = click.get_current_context().find_root().command
    click.echo(found(program, {}, "sessionctl", "_SESSIONCTL_COMPLETE").source(), nl=False)


def _of_the_user() -> str:
    shell = os.path.basename(os.environ.get("SHELL", ""))
    if shell not in SHELLS:
        raise Refused(f"name a shell: {', '.join(SHELLS)}", os.EX_USAGE)
    return shell
