"""Shells complete ``sessionctl``'s commands and options."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sessionctl import COMMAND, PATIENCE


def sessionctl(*words: str, status: int = 0, **environment: str) -> str:
    """What it prints; it needs neither a daemon nor a database."""
    done = subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "SESSIOND_DATABASE": "/nowhere/x.db", **environment},
    )
    assert done.returncode == status, done.stderr
    return done.stdout or done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    script = sessionctl("completion", shell)
    assert script == sessionctl(_SESSIONCTL_COMPLETE=f"{shell}_source")
    assert script == sessionctl("completion", SHELL=f"/usr/local/bin/{shell}")
    assert f"_SESSIONCTL_COMPLETE={shell}_complete" in script


def test_another_shell_is_refused() -> None:
    said = "sessionctl: name a shell: bash, zsh, fish\n"
    assert sessionctl("completion", SHELL="/bin/tcsh", status=os.EX_USAGE) == said
    sessionctl("completion", "tcsh", status=os.EX_USAGE)


def test_commands_and_options_are_completed() -> None:
    def completed(line: str) -> list[str]:
        found = sessionctl(
            _SESSIONCTL_COMPLETE="bash_complete",
            COMP_WORDS=line,
            COMP_CWORD=str(line.count(" ")),
        )
        return [each.removeprefix("plain,") for each in found.split()]

    assert completed("sessionctl sta") == ["status", "stats"]
    assert completed("sessionctl tail --fo") == ["--follow"]
    assert completed("sessionctl completion z") == ["zsh"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash: apt-get install bash")
def test_bash_itself_completes(tmp_path: Path) -> None:
    program = tmp_path / "sessionctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sessiond_client.cli "$@"\n', "utf-8")
    program.chmod(0o755)
    asked = (
        'eval "$(sessionctl completion bash)"\n'
        "COMP_WORDS=(sessionctl ren) COMP_CWORD=1\n"
        "_sessionctl_completion sessionctl\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", asked],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (done.stdout, done.stderr) == ("rename\n", "")
