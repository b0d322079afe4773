"""Many clients that send without a pause: ``python -m tests.support.flood SOCKET COUNT BYTES``.

Sends appends to the session ``s`` on ``COUNT`` connections as fast as the daemon takes them, reads
every answer, and prints how many there were once a line comes on standard input.
"""

import selectors
import sys
from socket import AF_UNIX
from socket import socket as Socket  # noqa: N812

from sessiond_protocol import wire

AHEAD = 200  # requests in one piece


def main(path: str, count: int, size: int) -> None:
    """Flood until told to stop."""
    message = {"role": "user", "timestamp": 1.0, "content": "x" * size}
    frame = wire.request(
        1, "message.append", wire.pack({"session_id": "s", "message": message}), None
    )
    piece = memoryview(frame * AHEAD)
    selector = selectors.DefaultSelector()
    sent: dict[Socket, int] = {}
    for _ in range(count):
        made = Socket(AF_UNIX)
        made.connect(path)
        made.setblocking(False)
        sent[made] = 0
        selector.register(made, selectors.EVENT_READ | selectors.EVENT_WRITE)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("flooding", flush=True)
    answers = 0
    while True:
        for key, events in selector.select():
            if key.fileobj is sys.stdin:
                print(answers, flush=True)
                return
            assert isinstance(key.fileobj, Socket)
            answers += _serve(key.fileobj, events, piece, sent)


def _serve(connected: Socket, events: int, piece: memoryview, sent: dict[Socket, int]) -> int:
    if events & selectors.EVENT_WRITE:
        place = sent[connected]
        sent[connected] = (place + connected.send(piece[place : place + 65_536])) % len(piece)
    if events & selectors.EVENT_READ:
        return connected.recv(65_536).count(b"\x94\x01\x01\xc0")
    return 0


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
