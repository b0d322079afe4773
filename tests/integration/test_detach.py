"""``sessiond serve --detach``: back when clients are served, or with the reason why not."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessiond_client import SessionDB
from sessiond_protocol import paths, state_file
from tests.support.home import await_end

EX_USAGE, EX_NOINPUT, EX_TEMPFAIL, EX_CONFIG = 64, 66, 75, 78
TIMEOUT = 30


@dataclass(frozen=True)
class Detached:
    """Daemons in the background whose files lie in ``folder``, the working directory."""

    folder: Path

    def serve(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``sessiond serve --detach`` until it leaves the terminal alone."""
        place = ("--database", "a.db", "--socket", "sock", "--log-file", "log")
        return subprocess.run(
            [sys.executable, "-m", "sessiond", "serve", "--detach", *place, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    @property
    def pid(self) -> int:
        """The daemon."""
        found = state_file.read(paths.state_file(str(self.folder / "a.db")))
        assert found is not None
        return found.pid

    @property
    def log(self) -> list[str]:
        """The lines that it has logged."""
        return (self.folder / "log").read_text("utf-8").splitlines()

    def hang_up(self) -> str:
        """Have it read its settings again; what it says of that."""
        before = len(self.log)
        os.kill(self.pid, signal.SIGHUP)
        with SessionDB(self.folder / "a.db", socket=self.folder / "sock", autostart=False) as db:
            while len(self.log) == before:
                db.get_stats()
        return self.log[before]


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Detached]:
    """A place for a daemon in the background, which is ended."""
    made = Detached(tmp_path)
    yield made
    found = state_file.read(paths.state_file(str(tmp_path / "a.db")))
    if found is not None:
        try:
            os.kill(found.pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        await_end(found.pid)


def test_it_serves_when_the_command_is_back(detached: Detached) -> None:
    done = detached.serve()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    place = {"socket": detached.folder / "sock", "autostart": False}
    with SessionDB(detached.folder / "a.db", **place) as db:  # type: ignore[arg-type]
        assert db.get_stats()["pid"] == detached.pid
    assert os.getsid(detached.pid) == detached.pid


def test_a_second_one_names_the_first(detached: Detached) -> None:
    detached.serve()
    done = detached.serve("--socket", "other")
    assert done.returncode == EX_TEMPFAIL
    (line,) = done.stderr.splitlines()
    assert line.startswith("sessiond: ")
    assert f"pid {detached.pid}" in line
    assert detached.log[-1].endswith(line.removeprefix("sessiond: "))


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["--log-file", "none/log"], EX_CONFIG, "none/log: No such file or directory"),
        (["--pool-size", "0"], EX_CONFIG, "--pool-size must be between 1 and 64, '0' is not"),
        (["--databse", "x"], EX_USAGE, "no such option '--databse', did you mean '--database'?"),
        (["more"], EX_USAGE, "got unexpected extra argument (more); try '"),
    ],
)
def test_the_terminal_shows_why_it_does_not_serve(
    detached: Detached, words: list[str], status: int, reason: str
) -> None:
    done = detached.serve(*words)
    (line,) = done.stderr.splitlines()
    assert line.startswith("sessiond: ")
    assert reason in line
    assert done.returncode == status


def test_what_the_daemon_itself_finds_wrong_is_shown_too(detached: Detached) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sessiond", "serve", "--detach", "--database", "."],
        cwd=detached.folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == EX_NOINPUT
    assert "is a directory" in done.stderr


def test_settings_are_read_again_from_where_it_was_started(detached: Detached) -> None:
    config = detached.folder / "c.toml"
    config.write_text("slow_request = 1\n")
    assert detached.serve("--config", "c.toml").returncode == 0
    config.write_text("slow_request = 2\npool_size = 8\n")
    said = detached.hang_up()
    assert said.endswith("changed: slow_request = 2.0; after a restart: pool_size")
    config.write_text("pool_size = 'many'\n")
    assert "settings stay as they are: pool_size in" in detached.hang_up()
