"""What systemd is told: readiness, status, stopping; and the sockets it hands over.

The protocol is that of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3): datagrams to
``NOTIFY_SOCKET``, descriptors from 3 on.
"""

import logging
import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import Final

log = logging.getLogger("sessiond.notify")

FIRST_DESCRIPTOR: Final = 3

# The manager takes a datagram at once; one that does not must not hold up the daemon for long.
_SECONDS: Final = 1.0
_MOST_DESCRIPTORS: Final = 64


class Notifier:
    """Sends state to the service manager, or nowhere when there is none.

    ``address`` is the content of ``NOTIFY_SOCKET``: a path, or a name in the abstract namespace
    written with ``@`` in front. Other kinds are ignored.
    """

    def __init__(self, address: str | None) -> None:
        self._address: str | None = None
        if address is not None and len(address) > 1 and address[0] in "/@":
            self._address = "\0" + address[1:] if address[0] == "@" else address

    @property
    def is_heard(self) -> bool:
        """Whether there is a manager to talk to."""
        return self._address is not None

    def send(self, **fields: str | int) -> None:
        """One message of ``NAME=value`` lines; a manager that is gone is no error.

        The names are those of sd_notify(3) in lower case: ``ready=1``, ``status="..."``,
        ``stopping=1``, ``watchdog=1``, ``extend_timeout_usec=...``.
        """
        if self._address is None:
            return
        lines = (f"{name.upper()}={_one_line(value)}" for name, value in fields.items())
        data = "\n".join(lines).encode("utf-8", "surrogateescape")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SECONDS)
                sender.sendto(data, self._address)
        except (OSError, UnicodeError) as error:
            log.debug("the service manager was not told %s: %s", ", ".join(fields), error)


def _one_line(value: str | int) -> str:
    """A line break would start another variable."""
    return " ".join(str(value).splitlines())


def watchdog_interval(environ: MutableMapping[str, str], pid: int) -> float | None:
    """How often, in seconds, the manager wants to hear ``watchdog=1``; None if it does not.

    Half of what it allows, as it recommends. The variables are removed: they are for this
    process only.
    """
    wanted = environ.pop("WATCHDOG_PID", "")
    microseconds = environ.pop("WATCHDOG_USEC", "")
    if wanted not in ("", str(pid)) or not _is_number(microseconds) or int(microseconds) == 0:
        return None
    return int(microseconds) / 2_000_000


def is_managed(environ: Mapping[str, str], pid: int) -> bool:
    """Whether systemd has started this very process, not one that it descends from."""
    return environ.get("SYSTEMD_EXEC_PID") == str(pid)


def inherited_sockets(environ: MutableMapping[str, str], pid: int) -> list[int]:
    """The listening Unix sockets that the manager passed to this very process, if any.

    The variables are removed: children must not take the sockets for theirs. Descriptors of
    another kind are logged and left alone.
    """
    wanted = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if wanted != str(pid) or not _is_number(count):
        return []
    found = []
    for descriptor in range(
        FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + min(int(count), _MOST_DESCRIPTORS)
    ):
        try:
            os.set_inheritable(descriptor, False)
            is_ours = _listens(descriptor)
        except OSError:
            is_ours = False
        if is_ours:
            found.append(descriptor)
        else:
            log.warning(
                "descriptor %d was handed over, but is no Unix socket that listens", descriptor
            )
    return found


def _listens(descriptor: int) -> bool:
    """Whether this is a Unix stream socket in the listening state; leaves it open."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        return (
            borrowed.family == socket.AF_UNIX
            and borrowed.type == socket.SOCK_STREAM
            and borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        )
    finally:
        borrowed.detach()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 18
