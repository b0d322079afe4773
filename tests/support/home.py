"""A home directory of one's own for tests: what runs in it finds no other database or daemon."""

import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessiond_client._starter import log_path
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State, StateFile

PATIENCE = 10.0


@dataclass(frozen=True)
class Home:
    """The home of a new user, who has nothing yet."""

    folder: Path

    @property
    def database(self) -> Path:
        """Where the usual database will be."""
        return self.folder / ".hermes" / "state.db"

    @property
    def log(self) -> str:
        """What the daemons that programs started for the usual database have logged."""
        path = log_path(str(self.database))
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def state(self) -> StateFile:
        """What the usual database's daemon says of itself."""
        found = state_file.read(paths.state_file(str(self.database)))
        assert found is not None
        return found

    def daemons(self) -> set[int]:
        """The processes that serve any database of this home, or are about to."""
        found = set()
        for entry in Path("/proc").iterdir():
            try:
                words = (
                    (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                )
            except OSError:
                continue  # it ended meanwhile
            inside = any(word.startswith(os.fsencode(self.folder)) for word in words)
            if b"serve" in words and inside:
                found.add(int(entry.name))
        return found

    def await_state(self, wanted: State) -> None:
        """Return as soon as the daemon says that it is in this state."""
        ended = os.pidfd_open(self.state.pid)
        try:
            while self.state.state is not wanted:
                over, _, _ = select.select([ended], [], [], 0.001)
                assert not over or self.state.state is wanted, self.log
        finally:
            os.close(ended)


def await_end(pid: int) -> None:
    """Return when a process that need not be a child has ended."""
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        over, _, _ = select.select([ended], [], [], PATIENCE)
        assert over, f"process {pid} is still there"
    finally:
        os.close(ended)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A scratch home for this process and those it starts; the daemons in it are ended."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    for name in list(os.environ):
        if name.startswith(("SESSIOND_", "HERMES_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    made = Home(folder)
    yield made
    for pid in made.daemons():
        os.kill(pid, signal.SIGTERM)
        await_end(pid)
