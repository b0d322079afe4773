"""The listening socket: bound while the database's lock is held, unlinked only if it is ours."""

import contextlib
import os
import socket
import stat
from typing import Final

BACKLOG: Final = 1024


class Listener:
    """A Unix socket at a path, or one that the service manager handed over.

    Binding, replacing and unlinking happen only while the caller holds the daemon's lock on the
    database: so a socket at the path that nobody listens on is stale.
    """

    def __init__(self, path: str, *, mode: int = 0o600, group: int | None = None) -> None:
        self.path = path
        self._mode = mode
        self.group = group
        self._identity: tuple[int, int] | None = None
        self.socket: socket.socket | None = None
        self.inherited = False

    def adopt(self, descriptor: int) -> socket.socket:
        """Use the socket that the service manager listens on; it stays the manager's."""
        adopted = socket.socket(fileno=descriptor)
        adopted.setblocking(False)
        self.socket = adopted
        self.inherited = True
        self.path = os.fsdecode(adopted.getsockname()) or self.path
        return adopted

    def bind(self) -> socket.socket:
        """Listen at the path, in the place of a stale socket if there is one.

        Raises ``OSError`` naming what lies there if it is not a socket, or one that is in use.
        """
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._clear_place()
            # Nobody but us may connect before the mode and the group are what they should be.
            before = os.umask(0o177)
            try:
                made.bind(self.path)
            finally:
                os.umask(before)
            if self.group is not None:
                os.chown(self.path, -1, self.group)
            os.chmod(self.path, self._mode)
            made.listen(BACKLOG)
            made.setblocking(False)
            status = os.lstat(self.path)
        except BaseException:
            made.close()
            raise
        self._identity = (status.st_dev, status.st_ino)
        self.socket = made
        return made

    def _clear_place(self) -> None:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise FileExistsError(f"{self.path} exists and is not a socket; move it away")
        if _is_alive(self.path):
            raise FileExistsError(f"somebody else listens on {self.path}")
        os.unlink(self.path)

    def bind_again(self) -> socket.socket:
        """Listen at the path once more, on a new socket; the old one is the caller's to close."""
        self.socket = None
        return self.bind()

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this socket; cleaners of /tmp remove such things."""
        if self.inherited:
            return True
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    @property
    def is_replaced(self) -> bool:
        """Whether somebody else listens at the path now."""
        try:
            alive = _is_alive(self.path)
        except OSError:
            return False
        return alive and not self.is_in_place

    def unlink(self) -> None:
        """Take the socket out of the file system, if what lies there is ours."""
        if not self.inherited and self.is_in_place:
            os.unlink(self.path)


def turn_away(descriptors: list[int]) -> None:
    """Close what waits on sockets of the service manager that will not be served.

    It would start the daemon for them again at once, and again; clients try again by themselves,
    and wait in between.
    """
    for descriptor in descriptors:
        waiting = socket.socket(fileno=descriptor)
        waiting.setblocking(False)
        with contextlib.suppress(OSError):
            while True:
                waiting.accept()[0].close()
        waiting.close()


def _is_alive(path: str) -> bool:
    """Whether a process listens on a socket; one that nobody listens on is stale.

    It may be the daemon of another database: the lock that we hold says nothing about it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its backlog is full
    return True
