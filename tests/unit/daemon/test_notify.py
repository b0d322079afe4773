"""Talking to the service manager."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.notify import Notifier, inherited_sockets, is_managed, watchdog_interval

ME = os.getpid()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The manager's socket, and its address as the environment has it."""
    path = str(tmp_path / "notify")
    abstract = f"sessiond-test-{ME}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        listener.bind(path if request.param == "path" else f"\0{abstract}")
        yield listener, path if request.param == "path" else f"@{abstract}"


def test_the_manager_hears_what_is_sent(manager: tuple[socket.socket, str]) -> None:
    listener, address = manager
    notifier = Notifier(address)
    assert notifier.is_heard
    notifier.send(ready=1, status="serving /x.db")
    assert listener.recv(1000) == b"READY=1\nSTATUS=serving /x.db"
    notifier.send(extend_timeout_usec=30_000_000)
    assert listener.recv(1000) == b"EXTEND_TIMEOUT_USEC=30000000"


def test_a_line_break_cannot_say_something_else(manager: tuple[socket.socket, str]) -> None:
    listener, address = manager
    Notifier(address).send(status="a\nREADY=1\r\nb")
    assert listener.recv(1000) == b"STATUS=a READY=1 b"


def test_a_path_that_is_not_utf_8_is_said_as_it_is(manager: tuple[socket.socket, str]) -> None:
    listener, address = manager
    Notifier(address).send(status=os.fsdecode(b"/\xff"))
    assert listener.recv(1000) == b"STATUS=/\xff"


@pytest.mark.parametrize("address", [None, "", "@", "relative", "vsock:2:1234"])
def test_without_a_manager_nothing_is_sent(address: str | None) -> None:
    notifier = Notifier(address)
    assert not notifier.is_heard
    notifier.send(ready=1)


@pytest.mark.parametrize(
    "address", ["/nonexistent/notify", "@nobody-listens-here", "/" + "x" * 200]
)
def test_a_manager_that_is_gone_is_no_error(address: str) -> None:
    Notifier(address).send(ready=1)


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(ME)}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_must(
    environ: dict[str, str], interval: float | None
) -> None:
    assert watchdog_interval(environ, ME) == interval
    assert environ == {}


def test_whom_systemd_has_started_and_who_only_descends_from_that() -> None:
    assert is_managed({"SYSTEMD_EXEC_PID": str(ME)}, ME)
    assert not is_managed({"SYSTEMD_EXEC_PID": str(ME + 1), "INVOCATION_ID": "x"}, ME)
    assert not is_managed({"HOME": "/"}, ME)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x"},
        {"LISTEN_FDS": "one", "LISTEN_PID": str(ME)},
        {"LISTEN_FDS": "0", "LISTEN_PID": str(ME)},
    ],
)
def test_sockets_for_others_are_left_alone(environ: dict[str, str]) -> None:
    assert inherited_sockets(environ, ME) == []
    assert environ == {}


_CHILD = """
import os, socket, sys
from sessiond.notify import inherited_sockets
given = int(sys.argv[1])
if given != 3:
    os.dup2(given, 3)
    os.close(given)
os.environ["LISTEN_PID"] = str(os.getpid())
for descriptor in inherited_sockets(os.environ, os.getpid()):
    with socket.socket(fileno=descriptor) as adopted:
        print(descriptor, os.get_inheritable(descriptor), adopted.getsockname())
print(sorted(name for name in os.environ if name.startswith("LISTEN")))
"""


def _adopt(tmp_path: Path, count: str, *, listen: bool = True) -> list[str]:
    """What a process finds that was handed a socket as descriptor 3."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        if listen:
            made.listen()
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(made.fileno())],
            pass_fds=[made.fileno()],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "LISTEN_FDS": count},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=30,
        )
    return done.stdout.splitlines()


def test_a_socket_is_adopted_and_not_passed_on(tmp_path: Path) -> None:
    assert _adopt(tmp_path, "1") == [f"3 False {tmp_path}/s", "[]"]


def test_what_does_not_listen_is_not_adopted(tmp_path: Path) -> None:
    assert _adopt(tmp_path, "1", listen=False) == ["[]"]


def test_a_manager_that_promises_too_much_is_taken_at_its_descriptors(tmp_path: Path) -> None:
    assert _adopt(tmp_path, "40")[0] == f"3 False {tmp_path}/s"
