"""What systemd is told: readiness, status, stopping; and the sockets it hands over.

The protocol is that of sd_notify(3) and sd_listen_fds(3): datagrams to ``NOTIFY_SOCKET``,
descriptors from 3 on.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

FIRST_DESCRIPTOR: Final = 3


class Notifier:
    """Sends state to the service manager, or nowhere when there is none."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        if address is not None and address.startswith("@"):
            self._address = "\0" + address[1:]

    def send(self, **fields: str | int) -> None:
        """One message of ``NAME=value`` lines; a manager that is gone is no error."""
        if self._address is None:
            return
        text = "\n".join(f"{name.upper()}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(self._address)
                sender.sendall(text.encode())
        except OSError:
            return


def inherited_sockets(environ: MutableMapping[str, str], pid: int) -> list[int]:
    """The descriptors that the service manager passed to this very process, if any.

    The variables are removed: children must not take the sockets for theirs.
    """
    wanted = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if wanted != str(pid) or not count.isdigit():
        return []
    descriptors = list(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors
