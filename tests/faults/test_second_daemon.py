"""One daemon per file, whatever path leads to it, however many are started."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sessiond_client import SessionDB
from sessiond_protocol import paths, state_file
from tests.support.faults import FaultyDaemon, path_to_tests

EX_TEMPFAIL = 75
EX_CONFIG = 78


def serve(database: Path, sock: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Another daemon, which must not get to serve."""
    return subprocess.run(
        [sys.executable, "-m", "sessiond", "serve", "--database", str(database),
         "--socket", str(sock), *options],
        capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip


@pytest.fixture
def served(faulty: FaultyDaemon) -> FaultyDaemon:
    """A running daemon."""
    faulty.start()
    return faulty


def test_a_second_one_is_refused_and_names_the_first(served: FaultyDaemon) -> None:
    second = serve(served.database, served.folder / "other")
    assert second.returncode == EX_TEMPFAIL
    assert f"is already served by sessiond, pid {served.pid} on {served.socket}" in second.stderr
    assert not (served.folder / "other").exists()
    with SessionDB(**served.arguments) as db:
        db.create_session("s", "test")


def test_a_second_one_through_a_symbolic_link_is_refused(served: FaultyDaemon) -> None:
    link = served.folder / "link.db"
    link.symlink_to(served.database)
    second = serve(link, served.folder / "other")
    assert second.returncode == EX_TEMPFAIL
    assert f"pid {served.pid}" in second.stderr


def test_a_second_one_through_a_hard_link_is_refused(served: FaultyDaemon) -> None:
    """It would have a log of its own: two logs for one file destroy it."""
    link = served.folder / "link.db"
    os.link(served.database, link)
    for _ in range(2):
        second = serve(link, served.folder / "other")
        assert second.returncode == EX_CONFIG
        assert "has 2 hard links, a database may have one name only" in second.stderr
        if served.process is not None:
            served.kill()
    assert not (served.folder / "link.db-wal").exists()
    link.unlink()
    served.start()


def test_one_that_leaves_is_waited_for(served: FaultyDaemon) -> None:
    """Two daemons change places without a moment in which a client would be turned away."""
    with SessionDB(**served.arguments) as db:
        db.create_session("s", "test")
        waiting = [db.append_message_nowait("s", "user", f"message {n}") for n in range(50)]
        assert served.process is not None
        older, served.process = served.process, None
        older.send_signal(signal.SIGTERM)
        served.launch()
        waiting += [db.append_message_nowait("s", "user", f"message {n}") for n in range(50, 100)]
        assert older.wait(10) == 0
        ids = [future.result() for future in waiting]
        assert ids == sorted(set(ids))
        assert [each["content"] for each in db.get_messages("s")] == [
            f"message {n}" for n in range(100)
        ]


# --- sockets -------------------------------------------------------------------------------


def test_a_stale_socket_is_replaced(served: FaultyDaemon) -> None:
    served.kill()
    assert served.socket.is_socket()
    served.start()
    with SessionDB(**served.arguments) as db:
        db.create_session("s", "test")


def test_a_living_socket_is_never_taken(served: FaultyDaemon, tmp_path: Path) -> None:
    """Not even by the daemon of another database that was told to listen there."""
    other = serve(tmp_path / "another.db", served.socket)
    assert other.returncode != 0
    assert f"somebody else listens on {served.socket}" in other.stderr
    with SessionDB(**served.arguments) as db:
        db.create_session("s", "test")


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("text")
    done = serve(tmp_path / "state.db", precious)
    assert done.returncode == 73
    assert "is not a socket" in done.stderr
    assert precious.read_text() == "text"


# --- many starters -------------------------------------------------------------------------

_STARTER = """
import sys
from sessiond_client import SessionDB
with SessionDB(sys.argv[1], timeout=20) as db:
    db.ensure_session(sys.argv[2], "test")
    db.append_message(sys.argv[2], "user", "hello")
    print(db.get_stats()["pid"])
"""
STARTERS = 20


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A place for a database whose daemon starts by itself; it is ended with the test."""
    yield tmp_path
    state = state_file.read(paths.state_file(str(tmp_path / "state.db")))
    if state is not None:
        with open_pid(state.pid) as ended:
            os.kill(state.pid, signal.SIGTERM)
            assert ended(10.0)


class open_pid:  # noqa: N801 (used as a statement)
    """A process to wait for that is not our child."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def __enter__(self) -> "open_pid":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def __call__(self, patience: float) -> bool:
        return bool(select.select([self._descriptor], [], [], patience)[0])


def test_many_starters_at_once_give_one_daemon(home: Path) -> None:
    environment = {**os.environ, **path_to_tests(), "XDG_STATE_HOME": str(home / "state")}

    def start(number: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", _STARTER, str(home / "state.db"), f"s{number}"],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    with ThreadPoolExecutor(STARTERS) as pool:
        pids = set(pool.map(start, range(STARTERS)))
    assert len(pids) == 1
    (log,) = (home / "state/sessiond").glob("*.log")
    assert log.read_text().count(" serving ") == 1
    state = state_file.read(paths.state_file(str(home / "state.db")))
    assert state is not None
    assert pids == {f"{state.pid}\n"}
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(state.socket)
