"""What docs/sessionctl.md shows can be typed."""

import os
import re
import shlex
from pathlib import Path

import click
import pytest

from sessiond_client.cli import exits
from sessiond_client.cli.program import program

PAGE = (Path(__file__).parents[4] / "docs" / "sessionctl.md").read_text("utf-8")
SHOWN = re.findall(r"^\$ sessionctl (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_of_the_page_is_understood(line: str) -> None:
    words = shlex.split(line.split(" | ")[0])
    files = dict.fromkeys(("backup.jsonl", "state-2025-11-20.db"), __file__)
    files["~/.hermes/sessions"] = str(Path(__file__).parent)
    words = [files.get(word, word) for word in words]
    command = program.get_command(click.Context(program), words[0])
    assert command is not None
    with click.Context(program) as parent:
        command.make_context(words[0], words[1:], parent)


def test_the_page_shows_every_exit_status() -> None:
    listed = set(map(int, re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)))
    own = {os.EX_USAGE, os.EX_SOFTWARE, os.EX_CANTCREAT, os.EX_CONFIG}
    used = {
        0,
        exits.NOTHING_FOUND,
        exits.INTERRUPTED,
        exits.TERMINATED,
        *own,
        *exits._STATUS.values(),
    }
    assert listed == used
