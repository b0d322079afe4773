"""A program that speaks to the daemon without the library: frames as they stand on the wire."""

from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket  # noqa: N812
from types import TracebackType
from typing import Any

import msgspec

from sessiond_protocol import wire

PATIENCE = 10.0


class Raw:
    """One connection. Usable as a context manager."""

    def __init__(self, path: Path) -> None:
        self.socket = Socket(AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self._reader = wire.FrameReader(2**31 - 1)
        self._next = 1

    def __enter__(self) -> "Raw":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def frame(self, method: str, place: wire.Place | None = None, **arguments: Any) -> bytes:
        """A request's bytes under the next number."""
        msgid, self._next = self._next, self._next + 1
        return wire.request(msgid, method, wire.pack(arguments), place)

    def ask(self, method: str, place: wire.Place | None = None, **arguments: Any) -> Any:
        """Send a request and wait for its result; an error is raised as ``Answer``."""
        self.socket.sendall(self.frame(method, place, **arguments))
        answer = self.answer()
        assert answer is not None, "the daemon has closed the connection"
        assert answer.error is None, answer.error
        return msgspec.msgpack.decode(answer.result)

    def answer(self) -> wire.ResponseFrame | None:
        """The next answer; None when the daemon has closed the connection."""
        while (frame := self._reader.next_frame()) is None:
            try:
                data = self.socket.recv(65_536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._reader.feed(data)
        message = wire.decode_frame(frame)
        assert isinstance(message, wire.ResponseFrame)
        return message

    def answers(self) -> list[wire.ResponseFrame]:
        """Every answer until the daemon closes the connection."""
        found = []
        while (answer := self.answer()) is not None:
            found.append(answer)
        return found


def message(text: str) -> dict[str, Any]:
    """A message as the wire has it."""
    return {"role": "user", "timestamp": 1.0, "content": text}
