"""A daemon of one's own for tests: a process on a scratch database, stopped and checked."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM
from socket import socket as Socket  # noqa: N812 (a property of Daemon is called socket)
from typing import Any

import pytest

PATIENCE = 10.0


class DidNotStart(Exception):
    """The daemon left, or did not get ready in time; the text holds its log."""


@dataclass
class Daemon:
    """A daemon under test. Its files lie in ``folder``; it keeps them over restarts.

    ``options`` are further arguments of ``sessiond serve``, ``program`` is what Python runs.
    """

    folder: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ("-m", "sessiond")
    process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        """The database file."""
        return self.folder / "state.db"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "sock"

    @property
    def log(self) -> str:
        """Everything it has logged in all its lives."""
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """The process of a daemon that was started."""
        assert self.process is not None
        return self.process.pid

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for a client object that talks to this daemon and starts no other."""
        return {"db_path": self.database, "socket": self.socket, "autostart": False}

    def start(self) -> None:
        """Start it and wait until it says that it is ready; then one can connect."""
        assert self.process is None, "it runs already"
        ready = self.folder / "ready"
        with Socket(AF_UNIX, SOCK_DGRAM) as told:
            ready.unlink(missing_ok=True)
            told.bind(str(ready))
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, *self.program, "serve", "--database", str(self.database),
                     "--socket", str(self.socket), *self.options],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self.environment, "NOTIFY_SOCKET": str(ready)},
                )  # fmt: skip
            self._await_ready(told)
        with Socket(AF_UNIX) as connected:
            connected.connect(str(self.socket))

    def _await_ready(self, told: Socket) -> None:
        ended = os.pidfd_open(self.pid)
        try:
            while True:
                found, _, _ = select.select([told.fileno(), ended], [], [], PATIENCE)
                if told.fileno() in found and b"READY=1" in told.recv(4096).split(b"\n"):
                    return
                if ended in found or not found:
                    self.kill()
                    raise DidNotStart(f"the daemon did not get ready:\n{self.log}")
        finally:
            os.close(ended)

    def stop(self) -> None:
        """Ask it to stop; it must drain and leave with status 0."""
        process = self._let_go()
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the daemon did not stop:\n{self.log}") from None
        assert status == 0, f"the daemon left with status {status}:\n{self.log}"

    def kill(self) -> None:
        """End it without a warning, as a crash does."""
        process = self._let_go()
        process.kill()
        process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal, such as SIGSTOP, which freezes it until SIGCONT."""
        os.kill(self.pid, number)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def _let_go(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "it does not run"
        process, self.process = self.process, None
        return process


def running(folder: Path, *options: str, **environment: str) -> Iterator[Daemon]:
    """The body of a fixture: a daemon that is started, and stopped at the end."""
    daemon = Daemon(folder, options, environment)
    daemon.start()
    try:
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.stop()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all tests of a module. Each test uses session ids of its own."""
    yield from running(tmp_path_factory.mktemp("daemon"))


@pytest.fixture
def own_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon for one test, which may stop, kill and restart it."""
    yield from running(tmp_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show what the test's daemons logged when it failed. A conftest takes this over."""
    report = yield
    if report.failed:  # type: ignore[attr-defined]
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Daemon):
                report.sections.append((f"log of {name}", value.log[-20_000:]))  # type: ignore[attr-defined]
    return report
