"""What a service manager hears of a daemon, and daemons that are started as it would."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack

PATIENCE = 10.0


class Manager:
    """Listens at ``NOTIFY_SOCKET`` and runs one ``sessiond serve``.

    ``heard`` are the messages so far, each a dict of its variables.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "state.db"
        self.socket = folder / "sock"
        self.heard: list[dict[str, str]] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ears.bind(str(folder / "notify"))

    @property
    def arguments(self) -> dict[str, object]:
        """Keyword arguments for a client object that talks to this daemon."""
        return {"db_path": self.database, "socket": self.socket, "autostart": False}

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the daemon; its log goes to the file ``log``."""
        clean = {name: text for name, text in os.environ.items() if name != "WATCHDOG_PID"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sessiond", "serve", "--database", str(self.database),
                 "--socket", str(self.socket), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean, "NOTIFY_SOCKET": str(self.folder / "notify"), **environment},
            )  # fmt: skip
        return self.process

    def hear(self, name: str, value: str | None = None, *, patience: float = PATIENCE) -> str:
        """Wait for a message with this variable, and this beginning of its value."""
        deadline = time.monotonic() + patience
        while True:
            self._ears.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._ears.recv(65536)
            except (TimeoutError, BlockingIOError):
                raise AssertionError(
                    f"{name} was not heard, but {self.heard}\n{self.log}"
                ) from None
            message = dict(line.split("=", 1) for line in data.decode().split("\n"))
            self.heard.append(message)
            if message.get(name, "").startswith(value or "") and name in message:
                return message[name]

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing is heard for this long."""
        self._ears.settimeout(seconds)
        try:
            self._ears.recv(65536)
        except TimeoutError:
            return True
        return False

    def hear_all(self) -> None:
        """Take what lies there."""
        self._ears.settimeout(0)
        while True:
            try:
                self._ears.recv(65536)
            except BlockingIOError:
                return

    def stats(self) -> dict[str, Any]:
        """What the daemon counts, asked over a connection of its own, past any client object."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE)
            asking.connect(str(self.socket))
            asking.sendall(msgpack.packb([0, 1, "server.stats", [{}]]))
            unpacker = msgpack.Unpacker()
            while True:
                unpacker.feed(asking.recv(65536))
                for _, _, error, result in unpacker:
                    assert error is None
                    assert isinstance(result, dict)
                    return result

    def wait_for_pending(self, requests: int) -> None:
        """Return when so many requests were read that are not answered yet."""
        deadline = time.monotonic() + PATIENCE
        while sum(each["pending"] for each in self.stats()["clients"]) < requests:
            assert time.monotonic() < deadline, self.stats()["clients"]

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    @property
    def log(self) -> str:
        """What the daemon has logged."""
        return (self.folder / "log").read_text("utf-8", "replace")

    def __enter__(self) -> "Manager":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._ears.close()
