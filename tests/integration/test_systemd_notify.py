"""What the service manager hears: ready, alive, busy, stopping, and why it was refused."""

import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import which

import pytest

from sessiond_client import SessionDB
from tests.support.frozen import frozen, thread_of
from tests.support.manager import PATIENCE, Manager

# Half of what is allowed, and twice as often: a message every 100 ms.
WATCHDOG = {"WATCHDOG_USEC": "400000"}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path) as made:
        yield made


@contextmanager
def locked(database: Path, kind: str) -> Iterator[None]:
    """Another program holds the database's write lock."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute(f"BEGIN {kind}")
        yield
        other.execute("ROLLBACK")


def test_ready_reload_stop(manager: Manager) -> None:
    process = manager.start()
    assert manager.hear("READY") == "1"
    assert manager.heard[-1]["STATUS"].startswith(f"serving {manager.database}: 0 clients")
    process.send_signal(signal.SIGHUP)
    assert manager.hear("RELOADING") == "1"
    assert int(manager.heard[-1]["MONOTONIC_USEC"]) > 0
    manager.hear("READY")
    assert manager.stop() == 0
    manager.hear("STOPPING")
    assert manager.heard[-1]["STATUS"] == "draining, 0 still to answer"


def test_a_refusal_is_said(manager: Manager) -> None:
    manager.database.write_text("shopping list\n" * 500)
    process = manager.start()
    assert process.wait(PATIENCE) == 65
    assert "is not a SQLite database" in manager.hear("STATUS", str(manager.database))


def test_the_watchdog_is_fed_and_people_are_told(manager: Manager) -> None:
    manager.start(**WATCHDOG)
    manager.hear("READY")
    for _ in range(3):
        manager.hear("WATCHDOG", "1")
    with SessionDB(**manager.arguments) as db:  # type: ignore[arg-type]
        db.create_session("s", source="cli")
        manager.hear("STATUS", f"serving {manager.database}: 1 client, 1 write since the start")
        manager.hear("WATCHDOG", "1")
    assert manager.stop() == 0


def test_a_start_that_waits_for_a_lock_asks_for_time(manager: Manager) -> None:
    with closing(sqlite3.connect(manager.database)) as made:
        made.execute("CREATE TABLE sessions (id TEXT)")
    with locked(manager.database, "EXCLUSIVE"):
        manager.start(**WATCHDOG)
        for _ in range(2):
            manager.hear("EXTEND_TIMEOUT_USEC", "30000000")
    # Such a table is nothing to serve; it was the waiting that counts here.
    manager.hear("STATUS", str(manager.database))


def test_waiting_for_a_lock_is_no_hanging(manager: Manager) -> None:
    manager.start(**WATCHDOG)
    manager.hear("READY")
    with SessionDB(**manager.arguments) as db:  # type: ignore[arg-type]
        db.create_session("s", source="cli")
        with locked(manager.database, "IMMEDIATE"):
            waiting = db.append_message_nowait("s", "user", "x")
            manager.wait_for_pending(1)
            manager.hear_all()
            for _ in range(5):
                manager.hear("WATCHDOG", "1")
            assert not waiting.done()
        assert waiting.result(PATIENCE) == 1
    assert manager.stop() == 0


def test_a_hanging_writer_is_not_vouched_for(manager: Manager) -> None:
    process = manager.start(**WATCHDOG)
    manager.hear("READY")
    manager.hear("WATCHDOG", "1")
    with frozen(thread_of(process.pid, "writer")):
        # The beat that was on its way is told; then nothing, though the event loop answers.
        while not manager.is_silent(0.5):
            manager.hear_all()
        assert manager.stats()["state"] == "serving"
    manager.hear("WATCHDOG", "1")
    assert manager.stop() == 0


def test_a_drain_that_waits_for_a_lock_asks_for_time(manager: Manager) -> None:
    process = manager.start(**WATCHDOG)
    manager.hear("READY")
    with SessionDB(**manager.arguments) as db:  # type: ignore[arg-type]
        db.create_session("s", source="cli")
        with locked(manager.database, "IMMEDIATE"):
            waiting = db.append_message_nowait("s", "user", "x")
            manager.wait_for_pending(1)
            process.send_signal(signal.SIGTERM)
            manager.hear("STOPPING", "1")
            assert manager.heard[-1]["STATUS"] == "draining, 1 still to answer"
            for _ in range(3):
                manager.hear("EXTEND_TIMEOUT_USEC", "30000000")
        assert process.wait(PATIENCE) == 0
        assert waiting.result(PATIENCE) == 1


def test_it_leaves_its_place_to_a_manager_that_takes_it(manager: Manager) -> None:
    process = manager.start()
    manager.hear("READY")
    manager.socket.unlink()
    with socket.socket(socket.AF_UNIX) as of_manager:
        of_manager.bind(str(manager.socket))
        of_manager.listen()
        assert process.wait(PATIENCE) == 0
    assert manager.socket.exists()
    assert "somebody else listens on" in manager.log


needs_activation = pytest.mark.skipif(
    which("systemd-socket-activate") is None, reason="systemd-socket-activate is not installed"
)


@contextmanager
def activated(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that the first connection starts. The process becomes the daemon's."""
    path = folder / "sock"
    process = subprocess.Popen(
        ["systemd-socket-activate", "-l", str(path), "--fdname=client", sys.executable, "-m",
         "sessiond", "serve", "--database", str(folder / "state.db"), *options],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        assert b"Listening on" in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@needs_activation
def test_the_first_connection_starts_it(tmp_path: Path) -> None:
    with activated(tmp_path) as process:
        assert not (tmp_path / "state.db").exists()
        with SessionDB(tmp_path / "state.db", socket=tmp_path / "sock", autostart=False) as db:
            db.create_session("s", source="cli")
            assert db.get_stats()["socket"] == str(tmp_path / "sock")
            assert db.get_stats()["pid"] == process.pid
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert (tmp_path / "sock").exists()  # it is the manager's


@needs_activation
@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--pool-size", "0"), 78),
        (("--no-such-option",), 64),
        (("--config", "/nowhere"), 64),
        (("--socket-group", "no-such-group"), 73),
        (("--database", "/"), 66),
    ],
)
def test_who_cannot_be_served_is_sent_away(
    options: tuple[str, ...], status: int, tmp_path: Path
) -> None:
    with activated(tmp_path, *options) as process, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(tmp_path / "sock"))
        assert client.recv(1) == b""
        assert process.wait(PATIENCE) == status
