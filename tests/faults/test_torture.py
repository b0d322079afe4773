"""``sessionctl torture`` itself: finds nothing in a sound build, and a broken one's sins."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import faults

COMMAND = [sys.executable, "-m", "sessiond_client.cli", "torture", "--json"]


def torture(*options: str) -> tuple[int, dict[str, Any]]:
    """Exit status and what was printed."""
    environment = {**os.environ, **faults.path_to_tests()}
    done = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_a_sound_build_stands_it() -> None:
    status, result = torture("--seconds", "10", "--clients", "4", "--seed", "3")
    assert result["violations"] == []
    assert status == 0
    assert result["kept"] is None
    assert result["answered"] > 500
    assert result["not_checked"] == []
    # All twelve kinds are planned for ten seconds; a slow machine does not get through them all.
    assert sum(count > 0 for count in result["faults"].values()) >= 8, result["faults"]
    assert result["cared"].keys() >= {"backup taken", "check run"}  # at the end they must succeed
    assert result["daemon_starts"] >= 2


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose sockets' paths are not too long, wherever pytest has its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_a_database_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    database = tmp_path / ("deep" * 20) / "scratch.db"
    done = subprocess.run(
        [sys.executable, "-m", "sessiond_client.cli", "torture", "--database", str(database)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert "lies too deep" in done.stderr
    assert done.returncode == os.EX_CANTCREAT


def test_a_build_that_answers_before_it_commits_is_caught(short_path: Path) -> None:
    broken = shlex.join(faults.command(faults.Faults(answer_early=True)))
    database = short_path / "scratch.db"
    status, result = torture(
        "--seconds", "4", "--clients", "3", "--seed", "1", "--sessiond", broken,
        "--database", str(database),
    )  # fmt: skip
    assert status == 1
    # A read that came before the commit, or a kill between answer and commit: either gives it away.
    signs = ("a read saw ", ", stored as []")
    assert any(sign in each for each in result["violations"] for sign in signs)
    kept = Path(result["kept"])
    assert kept.parent == short_path
    assert (kept / "scratch.db").exists()
    assert list(kept.glob("client-*.jsonl"))


@pytest.mark.parametrize(
    ("number", "said", "status"),
    [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)],
)
def test_a_signal_leaves_nothing_behind(
    short_path: Path, number: signal.Signals, said: str, status: int
) -> None:
    database = short_path / "scratch.db"
    command = [*COMMAND, "--seconds", "60", "--clients", "2", "--database", str(database)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while process.poll() is None and not list(short_path.glob("*/client-1-0.jsonl")):
            time.sleep(0.01)
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        assert process.communicate(timeout=10)[1] == f"sessionctl: {said}\n"
    assert process.returncode == status
    assert list(short_path.iterdir()) == []
    running = subprocess.run(["pgrep", "-f", str(short_path)], capture_output=True, check=False)
    assert running.stdout == b""


@pytest.mark.parametrize("name", ["scratch.db", "scratch.db-wal"])
def test_a_database_that_exists_is_never_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    done = subprocess.run(
        [*COMMAND, "--database", str(tmp_path / "scratch.db")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 73
    assert "exists; name a database that is not there yet" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"precious"
