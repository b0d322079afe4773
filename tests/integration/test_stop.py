"""``sessionctl stop`` with daemons that run, hang, or are systemd's."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from socket import socketpair

import pytest

from sessiond_client import SessionDB
from sessiond_client._place import Place
from sessiond_client.cli.commands import stop
from sessiond_client.cli.exits import Refused
from sessiond_protocol.state_file import State
from tests.support.daemon import Daemon
from tests.support.home import Home, home

__all__ = ["home"]


def ctl(*words: str, status: int = 0) -> str:
    """What ``sessionctl`` prints, or its complaint."""
    done = subprocess.run(
        [sys.executable, "-m", "sessiond_client.cli", *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout if not status else done.stderr


def test_a_daemon_that_a_program_has_started(home: Home) -> None:
    with SessionDB() as db:
        db.ensure_session("s")
        pid = db.get_stats()["pid"]
        assert db.get_stats()["managed"] is False
    assert ctl("stop") == f"stopped sessiond, pid {pid}, of {home.database}\n"
    assert home.daemons() == set()
    assert home.state.state is State.STOPPED
    assert not Path(home.state.socket).exists()
    assert "no daemon serves" in ctl("stop", status=os.EX_UNAVAILABLE)
    with SessionDB() as db:  # and another is started when it is wanted
        assert db.get_session("s") is not None
        other = db.get_stats()["pid"]
    told = json.loads(ctl("stop", "--json"))
    assert told == {"stopped": other, "database": str(home.database), "message": ""}


def test_without_a_database(tmp_path: Path) -> None:
    words = ("stop", "--database", str(tmp_path / "none.db"))
    assert "there is no database" in ctl(*words, status=os.EX_NOINPUT)


def named(daemon: Daemon) -> tuple[str, ...]:
    return ("stop", "--database", str(daemon.database), "--socket", str(daemon.socket))


def test_one_that_hangs_is_told_and_not_waited_for_long(own_daemon: Daemon) -> None:
    own_daemon.signal(signal.SIGSTOP)
    try:
        told = ctl(*named(own_daemon), "--timeout", "0.1", status=os.EX_TEMPFAIL)
        assert f"pid {own_daemon.pid} has not ended within 0.1 s" in told
    finally:
        own_daemon.signal(signal.SIGCONT)
    assert own_daemon.process is not None
    assert own_daemon.process.wait(10) == 0  # it was told to
    own_daemon.process = None


def test_systemds_is_left_alone(tmp_path: Path) -> None:
    # systemd sets the variable to the pid of what it starts, which exec keeps.
    program = (
        "import os, sys; os.environ['SYSTEMD_EXEC_PID'] = str(os.getpid());"
        "os.execv(sys.executable, [sys.executable, '-m', 'sessiond', *sys.argv[1:]])"
    )
    daemon = Daemon(tmp_path, program=("-c", program))
    daemon.start()
    try:
        told = ctl(*named(daemon), status=os.EX_TEMPFAIL)
        assert f"pid {daemon.pid} is run by systemd" in told
        assert "stop sessiond.socket sessiond.service" in told
        with SessionDB(**daemon.arguments) as db:
            assert db.get_stats()["managed"] is True
    finally:
        daemon.stop()


def test_a_number_that_is_another_processs_here_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = {"pid": 1, "managed": False}  # as a daemon in a container says
    monkeypatch.setattr(stop, "statistics", lambda _: said)
    place = Place(str(tmp_path / "state.db"), None, autostart=False)
    ours, theirs = socketpair()
    with ours, theirs:
        with pytest.raises(Refused, match=f"says it is pid 1, but is pid {os.getpid()} here"):
            stop.who(ours, place)
        said["pid"] = os.getpid()
        assert stop.who(ours, place) == stop.Found(os.getpid(), managed=False)
        said |= {"pid": 1, "managed": True}  # systemd listens, and is told, not killed
        assert stop.who(ours, place) == stop.Found(1, managed=True)


@pytest.mark.parametrize(
    ("group", "command"),
    [
        (
            "0::/user.slice/user-7.slice/user@7.service/app.slice/sessiond@lab.service\n",
            "systemctl --user stop sessiond@lab.socket sessiond@lab.service",
        ),
        (
            "0::/system.slice/sessiond.service\n",
            "systemctl stop sessiond.socket sessiond.service",
        ),
        ("", "systemctl stop sessiond.socket sessiond.service"),
    ],
)
def test_how_systemd_is_told(monkeypatch: pytest.MonkeyPatch, group: str, command: str) -> None:
    monkeypatch.setattr(stop, "_control_group", lambda _pid: group)
    assert stop.by_systemd(5).endswith(f": {command}")
