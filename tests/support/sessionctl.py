"""``sessionctl`` for tests: run in pipes or at a terminal, against a daemon with three sessions."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import SessionDB
from tests.support.daemon import Daemon, running
from tests.support.terminal import Seen, Step, at_terminal

PATIENCE = 30.0
COMMAND = (sys.executable, "-m", "sessiond_client.cli")


@dataclass(frozen=True)
class Ctl:
    """``sessionctl`` for one daemon's database."""

    daemon: Daemon

    def environment(self, **changes: str) -> dict[str, str]:
        """Like a login shell's, with this daemon's database."""
        left_out = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "SESSIOND_DATABASE", "SESSIOND_SOCKET")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        return {
            **kept,
            "TERM": "xterm-256color",
            "SESSIOND_DATABASE": str(self.daemon.database),
            "SESSIOND_SOCKET": str(self.daemon.socket),
            **changes,
        }

    def run(
        self, *words: str, status: int = 0, given: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it in pipes; it must end with ``status`` and never show a traceback."""
        done = subprocess.run(
            [*COMMAND, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=self.environment(**environment),
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == status, done.stderr + done.stdout
        return done

    def out(self, *words: str, **environment: str) -> str:
        """What it prints; it must not complain."""
        done = self.run(*words, status=0, given="", **environment)
        assert done.stderr == ""
        return done.stdout

    def complaint(self, *words: str, status: int) -> str:
        """The one line that it complains with."""
        said = self.run(*words, status=status).stderr
        assert said.startswith("sessionctl: ")
        assert said.count("\n") == 1
        return said.removeprefix("sessionctl: ").rstrip()

    def json(self, *words: str) -> Any:
        """What it prints as JSON."""
        return json.loads(self.out(*words, "--json"))

    def at_terminal(self, *words: str, answer: str = "", **environment: str) -> Seen:
        """Run it at a terminal of 80 columns."""
        seen = at_terminal(
            [*COMMAND, *words], answer=answer, environment=self.environment(**environment)
        )
        assert "Traceback" not in seen.text
        return seen

    def steered(self, *words: str, then: Sequence[Step]) -> Seen:
        """Run it at a terminal and react to what it shows."""
        seen = at_terminal([*COMMAND, *words], then=then, environment=self.environment())
        assert "Traceback" not in seen.text
        return seen


def fill(db: SessionDB) -> None:
    """Three sessions: one with everything, one in Japanese, one without a title."""
    db.create_session("20250101_120000_aaaa1111", "telegram", model="m1", user_id="u1")
    db.append_message("20250101_120000_aaaa1111", "user", "How do I install Docker?")
    db.append_message(
        "20250101_120000_aaaa1111",
        "assistant",
        "I look it up \x1b[31m[bold]now[/bold].",
        tool_calls=[{"id": "c", "function": {"name": "look", "arguments": '{"for": "Docker"}'}}],
        reasoning="They want Docker.",
    )
    long_result = "\n".join(f"line {number}" for number in range(50))
    db.append_message(
        "20250101_120000_aaaa1111", "tool", long_result, tool_name="look", tool_call_id="c"
    )
    db.set_session_title("20250101_120000_aaaa1111", "Docker for beginners")
    db.update_token_counts("20250101_120000_aaaa1111", 1200, 34, estimated_cost_usd=0.01)
    db.end_session("20250101_120000_aaaa1111", "done")
    db.create_session("20250102_120000_bbbb2222", "cli")
    db.append_message("20250102_120000_bbbb2222", "user", "東京の天気はどうですか" * 10)
    db.set_session_title("20250102_120000_bbbb2222", "東京の天気についての長い長い会話です" * 4)
    db.create_session("20250103_120000_cccc3333", "discord")
    db.append_message("20250103_120000_cccc3333", "user", "A first message " * 20)


@pytest.fixture(scope="module")
def ctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ctl]:
    """A daemon with three sessions that the tests only read."""
    for daemon in running(tmp_path_factory.mktemp("ctl")):
        with SessionDB(**daemon.arguments) as db:
            fill(db)
        yield Ctl(daemon)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Ctl]:
    """A daemon with three sessions for one test, which may change them."""
    for daemon in running(tmp_path):
        with SessionDB(**daemon.arguments) as db:
            fill(db)
        yield Ctl(daemon)


FIRST = "20250101_120000_aaaa1111"
JAPANESE = "20250102_120000_bbbb2222"
UNTITLED = "20250103_120000_cccc3333"


def ids(ctl: Ctl) -> list[str]:
    """The sessions that ``list`` shows, newest first."""
    return [each["id"] for each in ctl.json("list")]
