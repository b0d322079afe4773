"""A socket in the middle that ends each connection after so many bytes."""

import contextlib
import select
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNIX, SHUT_RDWR
from socket import socket as Socket  # noqa: N812

PIECE = 65_536


@dataclass(frozen=True, slots=True)
class Cut:
    """Ends a connection when this many bytes have passed: of requests, or of answers."""

    after: int
    answers: bool = False


class CuttingProxy:
    """Passes on what comes to ``path``; the first connections are cut as ``cuts`` says, in turn.

    ``done`` counts the cuts that have been made. Usable as a context manager.
    """

    def __init__(self, path: Path, target: Path, cuts: Sequence[Cut]) -> None:
        self._target = target
        self._cuts = list(cuts)
        self.done = 0
        self._listener = Socket(AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(100)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> "CuttingProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        """One connection after the other: a client has one at a time."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, Socket(AF_UNIX) as daemon, contextlib.suppress(OSError):
                daemon.connect(str(self._target))
                self._pass(client, daemon, self._cuts[0] if self._cuts else None)

    def _pass(self, client: Socket, daemon: Socket, cut: Cut | None) -> None:
        left = cut.after if cut is not None else -1
        other = {client: daemon, daemon: client}
        while True:
            ready, _, _ = select.select([client, daemon, self._listener], [], [])
            for source in ready:
                if source is self._listener:
                    if self._ended():
                        return
                    continue
                piece = source.recv(PIECE)
                if not piece:
                    return
                if cut is not None and (source is daemon) is cut.answers:
                    if len(piece) >= left:
                        other[source].sendall(piece[:left])
                        self._cuts.pop(0)
                        self.done += 1
                        return
                    left -= len(piece)
                other[source].sendall(piece)

    def _ended(self) -> bool:
        """Whether the listener was shut down; a client that waits for its turn is no reason."""
        poll = select.poll()
        poll.register(self._listener, select.POLLHUP)
        return any(event & select.POLLHUP for _, event in poll.poll(0))
