"""Where a database's daemon is found, and how it is reached."""

import contextlib
import os
import struct
import sys
from collections.abc import Mapping, Sequence
from socket import AF_UNIX, SOCK_STREAM, SOL_SOCKET
from socket import socket as Socket  # noqa: N812 (a field of Place is called socket)
from typing import Any, Final

import msgspec

from sessiond_client import _errors as errors
from sessiond_protocol import paths, state_file
from sessiond_protocol.errors import SessiondError

Key = tuple[str, str | None, bool]

SO_PEERCRED: Final = 17  # asm-generic/socket.h; not in every system's socket module


def daemon_settings(
    pool_size: int | None,
    batch_size: int | None,
    batch_wait_ms: float | None,
    enable_batching: bool,
) -> dict[str, Any]:
    """The in-process store's settings as those of a daemon that is started from here."""
    settings: dict[str, Any] = {}
    if pool_size is not None:
        settings["pool_size"] = pool_size
    if batch_size is not None:
        settings["batch_max_requests"] = batch_size
    if batch_wait_ms is not None:
        settings["batch_max_delay"] = batch_wait_ms / 1000
    if not enable_batching:
        settings["batch_max_requests"] = 1
    return settings


class Place(msgspec.Struct, frozen=True):
    """One database, by its real path, and how its daemon is reached.

    ``socket`` is what the caller named, or None.
    """

    database: str
    socket: str | None
    autostart: bool
    settings: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Objects with the same one share a connection.

        Whoever must not start a daemon shares none with somebody who must.
        """
        return (self.database, self.socket, self.autostart)

    @property
    def program(self) -> str:
        """What this process is called in the daemon's lists."""
        path = sys.argv[0] if sys.argv else ""
        if path == "-c":
            return "python -c"
        folder, name = os.path.split(path)
        if name == "__main__.py":  # of a package, by ``python -m``
            name = os.path.basename(folder)
        return name or "python"

    def candidates(self) -> Sequence[str]:
        """Paths to try, best first. The database itself is never opened for this."""
        chosen = paths.chosen_socket(self.socket, os.environ)
        if chosen is not None:
            return [chosen]
        found = []
        state = state_file.read(paths.state_file(self.database))
        if state is not None and state.socket:
            found.append(state.socket)
        usual = paths.usual_socket(self.database, os.geteuid())
        return [*found, usual] if usual not in found else found

    def connect(self, path: str, timeout: float) -> tuple[Socket | None, str | None]:
        """A connected socket, or why there is none.

        Raises :class:`~sessiond_client.Unauthorized` for a daemon that is not to be trusted.
        """
        made = Socket(AF_UNIX, SOCK_STREAM)
        try:
            made.settimeout(timeout)
            made.connect(path)
            self._check_server(made, path)
        except BaseException as error:
            made.close()
            # An error of our own is an OSError, too: trying again would not help.
            if isinstance(error, OSError) and not isinstance(error, SessiondError):
                return None, error.strerror or str(error)
            raise
        return made, None

    def _check_server(self, connected: Socket, path: str) -> None:
        """Talk only to a daemon of this user, of root, or of the database's owner."""
        if sys.platform != "linux":
            return
        raw = connected.getsockopt(SOL_SOCKET, SO_PEERCRED, struct.calcsize("3i"))
        uid = struct.unpack("3i", raw)[1] & 0xFFFF_FFFF
        allowed = {os.geteuid(), 0}
        with contextlib.suppress(OSError):
            allowed.add(os.stat(self.database).st_uid)
        if uid not in allowed:
            raise errors.Unauthorized(
                f"{path} belongs to uid {uid}, who is neither you, root, nor the owner of"
                f" {self.database}: nothing was sent"
            )

    def advice(self) -> str:
        """What to do when no daemon answers, and what the one that was started has logged."""
        started = None
        if self.autostart:
            # Most programs find a daemon: what starting one takes is loaded by those that do not.
            from sessiond_client._starter import plight

            started = plight(self.database)
        if started is not None:
            return started
        named = f" --socket {self.socket}" if self.socket else ""
        return f"start one with: sessiond serve --database {self.database}{named}"

    def start_daemon(self, remaining: float) -> str | None:
        """Start a daemon for the database; None, or why it cannot be started."""
        from sessiond_client._starter import start_daemon  # here as above

        return start_daemon(self.database, self.socket, self.settings, remaining)
