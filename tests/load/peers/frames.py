"""Peer *frames*: the daemon as it is, and clients that do no more than send and count.

They number their requests, as the protocol wants it, but keep nothing: no request is sent again,
nobody holds a future for its answer. What ``sessiond`` is slower than this is its client library.
"""

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from sessiond_client import SessionDB
from sessiond_client.bench.operations import (
    Append,
    AppendMany,
    Message,
    Operation,
    worker_sessions,
)
from sessiond_protocol import wire
from sessiond_protocol.channel import CLIENT_ID_BYTES
from sessiond_protocol.requests.message import MessageAppend, MessageAppendMany
from sessiond_protocol.requests.server import ServerHello
from tests.load.peers import sketch
from tests.load.peers.common import Settings, main
from tests.load.peers.sketch import SketchStore, address_of, connected

_PATIENCE: Final = 30.0
_HELLO: Final = 2**32 - 1  # its message id: none of a request's


def prepare(settings: Settings, _text: Sequence[str]) -> None:
    """Start a daemon on the new file, which ends with this process, and add the sessions."""
    address = address_of(settings.database)
    words = ("--database", str(settings.database), "--socket", address, "--log-level", "error")
    daemon = subprocess.Popen([sys.executable, "-m", "sessiond", "serve", *words])
    atexit.register(partial(_end, daemon))
    connected(address).close()
    with SessionDB(settings.database, socket=address, autostart=False, timeout=_PATIENCE) as db:
        for worker in range(settings.processes):
            for session in worker_sessions(worker):
                db.create_session(session, "bench")


def _end(daemon: "subprocess.Popen[bytes]") -> None:
    daemon.terminate()
    daemon.wait(_PATIENCE)


class FramesStore(SketchStore):
    """A channel whose answers are counted. Raises RuntimeError for one that is an error."""

    def __init__(self, database: Path, worker: int) -> None:
        super().__init__(database, worker)
        self._answered = 0
        hello = ServerHello(
            protocol=wire.PROTOCOL_VERSION,
            client="frames",
            client_id=os.urandom(CLIENT_ID_BYTES),
            pid=os.getpid(),
            database=str(database.resolve()),
        )
        self._socket.sendall(wire.request(_HELLO, ServerHello.METHOD, wire.pack(hello), None))
        while not self.answers():
            pass
        self._answered = 0

    def _request(self, operation: Operation) -> bytes:
        if isinstance(operation, Append):
            message = operation.message
            method: str = MessageAppend.METHOD
            arguments: dict[str, Any] = {"session_id": message.session, "message": _fields(message)}
        else:
            assert isinstance(operation, AppendMany)
            method = MessageAppendMany.METHOD
            messages = [_fields(each) for each in operation.messages]
            arguments = {"session_id": operation.session, "messages": messages}
        place = {"seq": self._sent, "floor": self._answered + 1}
        return bytes(self._pack((wire.REQUEST, self._sent, method, (arguments, place))))

    def answers(self) -> int:
        """Wait for answers; how many came."""
        count = 0
        data = self._socket.recv(sketch.RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the daemon is gone")
        self._unpacker.feed(data)
        for _, number, error, _ in self._unpacker:
            if error is not None:
                raise RuntimeError(f"request {number} was answered {error}")
            count += 1
        self._answered += count
        return count


def _fields(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content, "timestamp": time.time()}


PEER: Final = replace(sketch.PEER, name="frames", prepare=prepare, open_store=FramesStore)

if __name__ == "__main__":
    sys.exit(main(PEER))
