"""What the README and the protocol's page tell a reader to type works, in that order."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from sessiond_client import SessionDB
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State
from tests.support.home import Home, home

__all__ = ["home"]

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 30
PROGRAMS: Final = {"sessiond": "sessiond", "sessionctl": "sessiond_client.cli"}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    """The words of every command that a page shows after a prompt."""
    lines = "".join(blocks(page, "console")).splitlines()
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def run(*arguments: str) -> str:
    """What Python prints for these arguments; it must succeed without a complaint."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def serve_until_interrupted(words: list[str], **environment: str) -> None:
    """Start a daemon in the foreground and press Ctrl-C once it serves."""
    named = words[words.index("--database") + 1] if "--database" in words else None
    with subprocess.Popen(
        [sys.executable, "-m", "sessiond", *words[1:]],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " serving " in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    found = state_file.read(paths.state_file(paths.resolve_database(named, os.environ)))
    assert found is not None
    assert found.state is State.STOPPED


def watch_until_interrupted(words: list[str]) -> None:
    """Start what goes on by itself, and press Ctrl-C once it has printed something."""
    with subprocess.Popen(
        [sys.executable, "-m", PROGRAMS[words[0]], *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() != ""
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaint) == (130, "")


def follow(words: list[str], home: Home) -> None:
    """Do what a reader does with one command."""
    environment = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    words = [word.replace("/tmp/", f"{home.folder}/") for word in words]
    program, *arguments = words
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert set(arguments) <= set(targets)
    elif words[:2] == ["sessiond", "serve"] and "--help" not in words:
        serve_until_interrupted(words, **environment)
    elif words[:2] == ["sessionctl", "top"] or words[:3] == ["sessionctl", "tail", "-f"]:
        watch_until_interrupted(words)
    else:
        run("-m", PROGRAMS[program], *arguments)


def test_the_readme_from_top_to_bottom(home: Home, tmp_path: Path) -> None:
    outputs = []
    for number, block in enumerate(blocks("README.md", "python")):
        sample = tmp_path / f"sample_{number}.py"
        sample.write_text(block, encoding="utf-8")
        outputs.append(run(str(sample)))
    assert outputs == ["chat-1 Where is the >>>tea<<<?\n", "100\n"]
    shown = commands("README.md")
    assert ["make", "demo"] in shown
    assert ["sessionctl", "status"] in shown
    for words in shown:
        follow(words, home)
    assert "In the >>>kitchen<<<." in run("-m", PROGRAMS["sessionctl"], "search", "kitchen")


def test_every_command_in_the_readmes_text_exists(home: Home) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    mentioned = re.findall(r"`(sessiond|sessionctl) (\w+)[^`]*`", text)
    assert ("sessionctl", "install") in mentioned
    for program, command in sorted(set(mentioned)):
        assert "Usage: " in run("-m", PROGRAMS[program], command, "--help")


def test_the_settings_in_the_readmes_text_exist(home: Home) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    explained = run("-m", "sessiond", "serve", "--help")
    for name in re.findall(r"SESSIOND_(\w+)", text):
        assert f"--{name.lower().replace('_', '-')}" in explained


def test_the_protocols_example_for_generic_clients(home: Home, tmp_path: Path) -> None:
    (block,) = blocks("docs/protocol.md", "python")
    with SessionDB() as db:
        listens = db.get_stats()["socket"]
        changed, count = re.subn(r'(?<=socket_session\(")[^"]+', listens, block)
        assert count == 1
        sample = tmp_path / "sample.py"
        sample.write_text(f"{changed}\nimport os; os._exit(0)\n", encoding="utf-8")
        run(str(sample))  # pynvim leaves its transport to the garbage collector
        (stored,) = db.get_messages("s1")
        assert (stored["content"], stored["timestamp"]) == ("hi", 1.5)
        found = db.get_session("s1")
        assert found is not None
        assert found["source"] == "mine"


def test_the_ways_to_give_a_setting(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sessiond.toml").write_text("pool_size = 8\n", encoding="utf-8")
    shown = commands("docs/configuration.md")
    assert len(shown) == 3
    for words in shown:
        follow(words, home)
