"""``sessionctl stop``."""

import contextlib
import os
import re
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SOL_SOCKET
from socket import socket as Socket  # noqa: N812 (a property of Place is called socket)
from typing import Any, Final

import click
import msgspec

from sessiond_client._place import SO_PEERCRED, Place
from sessiond_client.cli import output
from sessiond_client.cli.connect import (
    PROBE_SECONDS,
    check_exists,
    check_reachable,
    last_word,
    place_of,
)
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.options import Asked, json_option, pass_asked, place_options
from sessiond_protocol import paths, state_file, wire
from sessiond_protocol.errors import SessiondError
from sessiond_protocol.requests.server import ServerStats
from sessiond_protocol.state_file import State

_LOOK_SECONDS: Final = 0.05
_MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024
_UNIT: Final = re.compile(r"sessiond(@[^/]*)?\.service")


@dataclass(frozen=True, slots=True)
class Found:
    """The daemon that is to stop; ``managed``: systemd has started it, and would again."""

    pid: int
    managed: bool


@click.command("stop")
@json_option
@place_options
@pass_asked
def command(asked: Asked, as_json: bool) -> None:
    """Stop the daemon that a program has started.

    It answers what it has accepted, empties the log and leaves; --timeout is how long that is
    waited for. The next program that wants the database starts another one. A daemon that
    systemd runs is systemd's to stop: this says how.

    \b
    Examples:
      sessionctl stop
      sessionctl stop --database ~/agents/state.db --timeout 60
    """
    place = place_of(asked)
    if place.socket is None:
        check_exists(place)
    deadline = time.monotonic() + asked.timeout
    with reached(place) as connected:
        found = who(connected, place)
        if found.managed:
            raise Refused(by_systemd(found.pid), os.EX_TEMPFAIL)
        # While the connection stands the process is there: the pid is no other's by now.
        ended = watch(found.pid)
        try:
            os.kill(found.pid, signal.SIGTERM)
        except PermissionError as error:
            raise Refused(
                f"pid {found.pid} is another user's, who alone may stop it", os.EX_NOPERM
            ) from error
        except ProcessLookupError:
            pass  # it has just ended by itself
    try:
        gone = await_end(place, found.pid, ended, deadline)
    finally:
        if ended is not None:
            os.close(ended)
    if not gone:
        raise Refused(
            f"pid {found.pid} has not ended within {asked.timeout:g} s; it was told to and goes on"
            " with what it has accepted",
            os.EX_TEMPFAIL,
        )
    report(place, found.pid, as_json)


@contextmanager
def reached(place: Place) -> Iterator[Socket]:
    """A connection to the daemon; refuses when there is none."""
    found = {}
    for path in place.candidates():
        connected, why = place.connect(path, PROBE_SECONDS)
        if connected is not None:
            with connected:
                yield connected
            return
        found[path] = why or ""
    check_reachable(place, found)
    left = last_word(place)
    raise Refused(
        f"no daemon serves {place.database}" + (f" ({left})" if left else ""), os.EX_UNAVAILABLE
    )


def who(connected: Socket, place: Place) -> Found:
    """Who serves: by its own word, or where it does not answer by the kernel's."""
    with contextlib.suppress(OSError, SessiondError, wire.FrameError, msgspec.DecodeError):
        stats = statistics(connected)
        found = Found(int(stats["pid"]), bool(stats.get("managed")))
        if not found.managed and sys.platform == "linux":
            _refuse_elsewhere(found.pid, _pid_of_listener(connected))
        return found
    if sys.platform == "linux":
        pid = _pid_of_listener(connected)
        state = state_file.read(paths.state_file(place.database))
        # Whose socket it is may be systemd itself, which listens for a daemon that is not there.
        if state is not None and state.pid == pid:
            return Found(pid, _UNIT.search(_control_group(pid)) is not None)
    raise Refused(f"whoever serves {place.database} does not say its pid", os.EX_TEMPFAIL)


def _pid_of_listener(connected: Socket) -> int:
    """As this process has to call it; 0 for a process that has no number here."""
    raw = connected.getsockopt(SOL_SOCKET, SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", raw)[0]
    return pid


def _refuse_elsewhere(said: int, listener: int) -> None:
    """In a container a daemon has another number than here, where that is somebody else's."""
    if listener != said:
        here = f"is pid {listener} here" if listener else "cannot be seen from here"
        raise Refused(
            f"the daemon says it is pid {said}, but {here}: stop it where it was started",
            os.EX_TEMPFAIL,
        )


def statistics(connected: Socket) -> dict[str, Any]:
    """What the daemon says of itself; it does so without a hello, and while it migrates."""
    arguments = msgspec.msgpack.encode({})
    connected.sendall(wire.request(1, ServerStats.METHOD, arguments, None))
    reader = wire.FrameReader(_MOST_ANSWER_BYTES)
    while (frame := reader.next_frame()) is None:
        data = connected.recv(65_536)
        if not data:
            raise ConnectionError("the daemon closed the connection")
        reader.feed(data)
    answer = wire.decode_frame(frame)
    if not isinstance(answer, wire.ResponseFrame) or answer.error is not None:
        raise SessiondError("the daemon does not say how it fares")
    stats: dict[str, Any] = msgspec.msgpack.decode(answer.result)
    return stats


def by_systemd(pid: int) -> str:
    """How to stop a daemon that systemd runs."""
    group = _control_group(pid)
    unit = _UNIT.search(group)
    service = unit[0] if unit is not None else "sessiond.service"
    socket = service.removesuffix("service") + "socket"
    scope = "--user " if "/user@" in group else ""
    return (
        f"pid {pid} is run by systemd, which would start it again:"
        f" systemctl {scope}stop {socket} {service}"
    )


def _control_group(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text("utf-8", "replace")
    except OSError:
        return ""


def watch(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends, where there is such a thing."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def await_end(place: Place, pid: int, ended: int | None, deadline: float) -> bool:
    """Whether the process ended in time."""
    if ended is not None:
        found, _, _ = select.select([ended], [], [], max(0.0, deadline - time.monotonic()))
        return bool(found)
    while not _has_left(place, pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _has_left(place: Place, pid: int) -> bool:
    state = state_file.read(paths.state_file(place.database))
    if state is not None and state.pid == pid and state.state in (State.STOPPED, State.FAILED):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def report(place: Place, pid: int, as_json: bool) -> None:
    """Say what was stopped, and what it left word of."""
    state = state_file.read(paths.state_file(place.database))
    message = state.message if state is not None and state.pid == pid else ""
    if as_json:
        output.print_json({"stopped": pid, "database": place.database, "message": message})
        return
    click.echo(f"stopped sessiond, pid {pid}, of {place.database}")
    if message:
        click.echo(message)
