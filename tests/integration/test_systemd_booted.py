"""The units under a real systemd: started when needed, and kept, whatever happens.

One systemd is booted for all tests; each ends with the service running or stopped, and the next
does not care which.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessiond_client.cli.program import run as sessionctl
from tests.support.frozen import frozen, thread_of
from tests.support.systemd_pid1 import Booted, why_not

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
PROGRAM = str(Path(sys.executable).with_name("sessiond"))
# What users' programs are made of: this checkout and this Python.
NEEDED = {str(ROOT), sys.prefix, sys.base_prefix, os.path.realpath(sys.executable)}
SUPPORT = ROOT / "tests" / "support" / "systemd_pid1"
SERVICE, SOCKET = "sessiond.service", "sessiond.socket"
DROP_INS = f"/etc/systemd/system/{SERVICE}.d"

# A member of the group that may connect, and somebody who is none.
ANN = "4242"
USERS = f'u ann {ANN} "A user" /home/ann\nm ann sessiond\nu bob - "Another user"\n'
OF_ANN = {"HOME": "/home/ann", "XDG_RUNTIME_DIR": f"/run/user/{ANN}"}
# What a login gives her: a service manager of her own.
LOGIN = f"""[Service]
Type=notify
User=ann
Delegate=yes
ExecStartPre=+/usr/bin/install -d -m 700 -o ann -g ann /run/user/{ANN} /home/ann
Environment=HOME=/home/ann XDG_RUNTIME_DIR=/run/user/{ANN}
ExecStart=/lib/systemd/systemd --user
"""


def interpreter() -> str:
    """What lets the service see this Python and this checkout where they lie in a home.

    The unit hides homes, and sessionctl refuses to install such a program for the system. Here
    the homes stay hidden, and what is needed is put back alone.
    """
    hidden = sorted(each for each in NEEDED if each.startswith(("/home/", "/root/", "/tmp/")))
    lines = ["ProtectHome=tmpfs", *(f"BindReadOnlyPaths={each}" for each in hidden)]
    return "\n".join(["[Service]", *lines, ""])


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    payload = tmp_path_factory.mktemp("payload")
    for name in ((), ("--name", "probe")):
        words = ["install", "--system", "--program", PROGRAM, "--root", str(payload), *name]
        assert sessionctl(words) == 0
    files = {
        "etc/sysusers.d/users.conf": USERS,
        "etc/systemd/system/login.service": LOGIN,
        f"{DROP_INS}/interpreter.conf": interpreter(),
        "etc/systemd/system/sessiond@.service.d/interpreter.conf": interpreter(),
    }
    for path, text in files.items():
        place = payload / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    booted = Booted(payload)
    try:
        # Users must reach it, too, also in a folder that is its owner's alone; this is a layer
        # above the machine's own folders.
        folders = {folder for each in NEEDED for folder in Path(each, "any").parents}
        booted.run("chmod", "o+x", *sorted(map(str, folders)))
        booted.systemctl("enable", "--now", SOCKET)
        yield booted
    finally:
        booted.close()


PLACE = {
    "SESSIOND_DATABASE": "/var/lib/sessiond/state.db",
    "SESSIOND_SOCKET": "/run/sessiond/state.sock",
}


@contextmanager
def load(
    systemd: Booted, threads: int = 4, place: Mapping[str, str] = PLACE
) -> Iterator[dict[str, Any]]:
    """Users' writers at work meanwhile. Afterwards the dict holds what came of it."""
    result: dict[str, Any] = {}
    environment = {"PYTHONDONTWRITEBYTECODE": "1", **place}
    words = systemd.inside(
        PYTHON, str(SUPPORT / "client.py"), str(threads), user="ann", **environment
    )
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "writing\n"
            yield result
            out, _ = process.communicate("\n", timeout=30)
            result.update(json.loads(out.splitlines()[-1]))
        finally:
            process.kill()


def unharmed(result: dict[str, Any]) -> None:
    """No client saw an error, and everything that was answered is there, once, in its order."""
    assert result["errors"] == []
    assert result["wrong"] == []
    assert result["answered"] > 0


def test_the_first_connection_starts_it(systemd: Booted) -> None:
    systemd.systemctl("stop", SERVICE)
    assert systemd.state(SERVICE) == "inactive"
    with load(systemd, 1) as result:
        assert systemd.state(SERVICE) == "active"
        assert systemd.show(SERVICE, "StatusText").startswith("serving /var/lib/sessiond/state.db")
        status = Path(f"/proc/{systemd.process_of(SERVICE)}/status").read_text()
        uid = systemd.run("id", "-u", "sessiond").strip()
        assert f"\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in status
    unharmed(result)


def test_somebody_else_cannot_connect(systemd: Booted) -> None:
    words = systemd.inside("test", "-w", "/run/sessiond/state.sock", user="bob")
    assert subprocess.run(words, check=False).returncode == 1
    words = systemd.inside("test", "-r", "/var/lib/sessiond/state.db", user="ann")
    assert subprocess.run(words, check=False).returncode == 1  # only through the daemon


def test_killed_under_load_nothing_is_lost_and_nobody_notices(systemd: Booted) -> None:
    systemd.systemctl("start", SERVICE)
    before = int(systemd.show(SERVICE, "NRestarts"))
    with load(systemd) as result:
        for _ in range(3):
            pid = systemd.process_of(SERVICE)
            os.kill(pid, signal.SIGKILL)
            systemd.await_other_process(SERVICE, pid)
    unharmed(result)
    assert int(systemd.show(SERVICE, "NRestarts")) == before + 3
    assert result["slowest"] < 10


def test_a_writer_that_hangs_is_noticed_and_replaced(systemd: Booted) -> None:
    watchdog = f"/run/systemd/system/{SERVICE}.d/watchdog.conf"
    systemd.write(watchdog, "[Service]\nWatchdogSec=2s\n")
    systemd.systemctl("restart", SERVICE)
    try:
        with load(systemd) as result:
            pid = systemd.process_of(SERVICE)
            with frozen(thread_of(pid, "writer")) as bury:
                systemd.await_other_process(SERVICE, pid, meanwhile=bury)
        unharmed(result)
        journal = systemd.journal(SERVICE)
        assert "Watchdog timeout" in journal
        # Where it hung: every thread's place in the code.
        assert "Fatal Python error: Aborted" in journal
        assert "sessiond/writer.py" in journal
    finally:
        (systemd.root / watchdog.lstrip("/")).unlink()
        systemd.systemctl("daemon-reload")
        systemd.systemctl("restart", SERVICE)


def test_a_restart_under_load_refuses_nobody(systemd: Booted) -> None:
    systemd.systemctl("start", SERVICE)
    with load(systemd) as result:
        systemd.systemctl("restart", SERVICE)
        with load(systemd) as newcomers:
            systemd.systemctl("restart", SERVICE)
        unharmed(newcomers)
    unharmed(result)
    assert systemd.show(SERVICE, "Result") == "success"


def test_stopping_drains(systemd: Booted) -> None:
    systemd.systemctl("start", SERVICE)
    with load(systemd) as result:
        systemd.systemctl("stop", SERVICE)
        assert systemd.show(SERVICE, "Result") == "success"
        # Those who go on writing have it started again: the socket stayed.
    unharmed(result)
    journal = systemd.journal(SERVICE)
    assert "stopping: " in journal
    systemd.systemctl("stop", SERVICE)
    # The log was emptied: what lies there is one whole file.
    assert (systemd.root / "var/lib/sessiond/state.db-wal").stat().st_size == 0


def test_reloading_takes_over_settings(systemd: Booted) -> None:
    systemd.write("/etc/sessiond/sessiond.env", "SESSIOND_CONFIG=/etc/sessiond/sessiond.toml\n")
    systemd.write("/etc/sessiond/sessiond.toml", 'drain_timeout = "20s"\n')
    systemd.systemctl("restart", SERVICE)
    try:
        pid = systemd.process_of(SERVICE)
        systemd.write("/etc/sessiond/sessiond.toml", 'drain_timeout = "21s"\npool_size = 3\n')
        systemd.systemctl("reload", SERVICE)
        systemd.await_journal(SERVICE, "settings read again")
        assert (
            "settings read again; changed: drain_timeout = 21.0; after a restart: pool_size"
            in systemd.journal(SERVICE)
        )
        systemd.await_state(SERVICE, "active")
        assert systemd.process_of(SERVICE) == pid
    finally:
        (systemd.root / "etc/sessiond/sessiond.env").unlink()


def test_settings_that_are_wrong_stop_it_until_they_are_mended(systemd: Booted) -> None:
    systemd.write("/etc/sessiond/sessiond.env", "SESSIOND_POOL_SIZE=many\n")
    systemd.run("systemctl", "restart", SERVICE, check=False)
    try:
        assert systemd.state(SERVICE) == "failed"
        assert systemd.show(SERVICE, "ExecMainStatus") == "78"
        complaint = "SESSIOND_POOL_SIZE must be a whole number"
        before = systemd.journal(SERVICE).count(complaint)
        assert before == 1  # it was not tried again and again
        # Who connects has it tried again, at the pace at which a client does.
        words = systemd.inside(
            PYTHON, "-c", "import sessiond_client as c; c.SessionDB(timeout=2).session_count()",
            user="ann", **PLACE,
        )  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
        assert "Unavailable" in done.stderr
        assert 0 < systemd.journal(SERVICE).count(complaint) - before <= 10
        assert systemd.state(SOCKET) == "active"
    finally:
        (systemd.root / "etc/sessiond/sessiond.env").unlink()
    with load(systemd, 1) as result:
        assert systemd.state(SERVICE) == "active"
    unharmed(result)


def test_metrics_are_served_to_this_machine(systemd: Booted) -> None:
    source = (ROOT / "systemd" / "system" / "metrics.conf").read_text()
    drop_in = f"/run/systemd/system/{SERVICE}.d/metrics.conf"
    systemd.write(drop_in, source)
    systemd.systemctl("restart", SERVICE)
    try:
        read = (
            "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read())"
        )
        assert 'sessiond_state{state="serving"} 1.0' in systemd.run(PYTHON, "-c", read)
    finally:
        (systemd.root / drop_in.lstrip("/")).unlink()
        systemd.systemctl("daemon-reload")
        systemd.systemctl("restart", SERVICE)


def test_what_the_service_may_do(systemd: Booted) -> None:
    systemd.write(
        "/run/systemd/system/sessiond@probe.service.d/probe.conf",
        f"[Service]\nType=oneshot\nExecStart=\nExecStart={PYTHON} {SUPPORT / 'probe.py'}\n",
    )
    systemd.systemctl("start", "sessiond@probe.service")
    lines = systemd.journal("sessiond@probe.service").splitlines()
    (found,) = [json.loads(line) for line in lines if line.startswith("{")]
    assert found == {
        "state folder": "done",
        "/etc": "EROFS",
        "/usr": "EROFS",
        "/home": [],
        "other processes": [],
        "internet": "EAFNOSUPPORT",
        "namespace": "EPERM",
        "priority": "EPERM",
        "capabilities": "",
        "new privileges": "1",
        "filter": "2",
        "uid is root's": False,
    }


def of_ann(systemd: Booted, *words: str) -> str:
    """Run a command as she does at her terminal; what it printed."""
    done = subprocess.run(
        systemd.inside(*words, user="ann", **OF_ANN),
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def test_a_users_own_daemon(systemd: Booted) -> None:
    control = str(Path(sys.executable).with_name("sessionctl"))
    systemd.systemctl("start", "login.service")
    said = of_ann(systemd, PYTHON, control, "install", "--user", "--now")
    assert "run systemctl --user enable --now sessiond.socket\n" in said
    # Nothing tells her programs where the socket is: they look in the usual place.
    with load(systemd, 2, OF_ANN) as result:
        state = of_ann(systemd, "systemctl", "--user", "show", "-p", "StatusText", SERVICE)
        assert state.startswith("StatusText=serving /home/ann/.hermes/state.db: ")
        pid = of_ann(systemd, "systemctl", "--user", "show", "--value", "-p", "MainPID", SERVICE)
        systemd.run("kill", "-9", pid.strip())
    unharmed(result)
    said = of_ann(systemd, PYTHON, control, "uninstall", "--user")
    assert "run systemctl --user stop sessiond.socket sessiond.service\n" in said
    left = of_ann(systemd, "find", "/home/ann/.config/systemd", "-type", "f", "-o", "-type", "l")
    assert left == ""
    assert systemd.run("ls", "/home/ann/.hermes").split() != []
