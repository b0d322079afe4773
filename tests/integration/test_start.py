"""Starting on something that cannot be served: a clear line, a fitting status, nothing harmed."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sessiond_client import SessionDB
from tests.support.daemon import Daemon

EX_DATAERR, EX_NOINPUT, EX_CANTCREAT, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 65, 66, 73, 75, 77, 78


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``sessiond serve`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sessiond", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
    )


def refused(status: int, text: str, *arguments: str, **environment: str) -> None:
    """The start ends with this status and a line that says this, without a traceback."""
    done = serve(*arguments, **environment)
    assert "Traceback" not in done.stderr
    assert text in done.stderr
    assert done.returncode == status


def test_a_second_daemon_names_the_first(daemon: Daemon, tmp_path: Path) -> None:
    done = serve("--database", str(daemon.database), "--socket", str(tmp_path / "other"))
    assert done.returncode == EX_TEMPFAIL
    assert f"pid {daemon.pid}" in done.stderr
    assert str(daemon.socket) in done.stderr
    with SessionDB(**daemon.arguments) as db:
        assert db.session_count() >= 0


def test_a_second_daemon_through_a_symbolic_link(daemon: Daemon, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(daemon.database)
    done = serve("--database", str(link), "--socket", str(tmp_path / "other"))
    assert done.returncode == EX_TEMPFAIL
    assert f"pid {daemon.pid}" in done.stderr


def test_a_socket_path_that_is_too_long(tmp_path: Path) -> None:
    path = str(tmp_path / ("x" * 120))
    refused(EX_CANTCREAT, "exceeds 107", "--database", str(tmp_path / "a.db"), "--socket", path)


def test_something_else_lies_at_the_socket_path(tmp_path: Path) -> None:
    place = tmp_path / "sock"
    place.write_text("precious")
    arguments = ("--database", str(tmp_path / "a.db"), "--socket", str(place))
    refused(EX_CANTCREAT, "exists and is not a socket", *arguments)
    assert place.read_text() == "precious"


def test_a_directory(tmp_path: Path) -> None:
    refused(EX_NOINPUT, str(tmp_path), "--database", str(tmp_path), "--socket", "/tmp/none")


def test_a_missing_directory(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "a.db")
    done = serve("--database", path, "--socket", str(tmp_path / "sock"))
    assert done.returncode in (EX_NOINPUT, EX_NOPERM, EX_CANTCREAT)
    assert "missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_not_sqlite_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("shopping list\n" * 500)
    before = path.read_bytes()
    arguments = ("--database", str(path), "--socket", str(tmp_path / "sock"))
    refused(EX_DATAERR, "is not a SQLite database", *arguments)
    assert path.read_bytes() == before


def test_another_applications_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = path.read_bytes()
    arguments = ("--database", str(path), "--socket", str(tmp_path / "sock"))
    refused(EX_DATAERR, "is not a session database", *arguments)
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to be refused")
@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_may_not_be_written(tmp_path: Path, what: str) -> None:
    database = tmp_path / "a.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE sessions (id TEXT)")
    connection.close()
    folder = tmp_path
    for each in (folder, *folder.parents[:3]):
        if str(each).startswith("/tmp/"):
            each.chmod(0o755)
    if what == "file":
        database.chmod(0o444)
    script = (
        "import os, sys, sessiond.app, sessiond.cli, uvloop, encodings.idna;"
        " os.setgroups([]); os.setgid(65533); os.setuid(65533); sessiond.cli.main()"
    )
    socket = f"/tmp/sessiond-test-{os.getpid()}"
    done = subprocess.run(
        [sys.executable, "-c", script, "serve", "--database", str(database), "--socket", socket],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == EX_NOPERM
    assert str(database) in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--pool-size", "many"], "--pool-size must be a whole number, 'many' is not"),
        (["--pool-size", "0"], "--pool-size must be between 1 and 64, '0' is not"),
        (["--cache-size", "12 parsecs"], "--cache-size must be a number of bytes"),
        (["--idle-exit", "-3"], "--idle-exit"),
        (["--socket-group", "no-such-group"], "socket_group 'no-such-group' does not exist"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, arguments: list[str], text: str) -> None:
    place = ("--database", str(tmp_path / "a.db"), "--socket", str(tmp_path / "sock"))
    done = serve(*place, *arguments)
    assert text in done.stderr
    assert done.returncode in (EX_CONFIG, EX_CANTCREAT)
    assert "Traceback" not in done.stderr


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    text = "SESSIOND_POOL_SIZE must be a whole number"
    refused(EX_CONFIG, text, "--database", str(tmp_path / "a.db"), SESSIOND_POOL_SIZE="x")


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("pool_sizes = 3\n")
    arguments = ("--config", str(config), "--database", str(tmp_path / "a.db"))
    refused(EX_CONFIG, "did you mean pool_size?", *arguments)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.start()
    daemon.kill()
    assert daemon.socket.exists()
    daemon.start()
    with SessionDB(**daemon.arguments) as db:
        assert db.session_count() == 0
    daemon.stop()
    assert not daemon.socket.exists()
