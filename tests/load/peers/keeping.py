"""Peer *keeping*: the sketch, and what the promises put into the file.

In each transaction a row for every client with its numbers, the answers and a digest of each
request, by which one that is sent again would be known; the pair index of what words do not
find; the row that counts commits. It only writes them: nothing is looked up, judged, bounded or
sent again. What the daemon is slower than this is what it checks.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import apsw
import msgspec
from msgpack import unpackb

from sessiond.sqlite.cjk_index import add_pairs, pairs_of
from sessiond.sqlite.meta import Meta
from sessiond.sqlite.receipts import Channels
from sessiond_client.bench.operations import Operation
from sessiond_protocol import schema
from sessiond_protocol.channel import ChannelRun, ServerChannel
from sessiond_protocol.receipts import IdReceipts, Receipt, Receipts, digest, digests
from sessiond_protocol.requests.message import MessageAppend, MessageAppendMany
from tests.load.peers import raw, sketch
from tests.load.peers.common import Settings, main
from tests.load.peers.plain import base_statements
from tests.load.peers.sketch import Batches, SketchStore, Waiting

_ADD_META: Final = "INSERT INTO sessiond_meta (id, generation) VALUES (1, randomblob(16))"


class KeepingBatches(Batches):
    """Batches with receipts and both indexes."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self._meta = Meta(connection)
        self._channels = Channels(connection)
        self._clients: dict[Any, bytes] = {}
        self._kept: dict[bytes, int] = {}  # the highest number of each client's last batch

    @staticmethod
    def requests(transport: Any, unpacker: Any) -> list[Waiting]:
        """The requests that have arrived whole, and the bytes they are known by."""
        return [(transport, number, unpackb(data), data) for number, data in unpacker]

    def store(self, requests: list[Waiting]) -> None:
        """Everything of a batch but its transaction."""
        first = self._last + 1
        super().store(requests)
        rows = [row for _, _, rows, _ in requests for row in rows]
        pairs = {
            message_id: found
            for message_id, row in enumerate(rows, first)
            if not row[2].isascii() and (found := pairs_of(row[2])) is not None
        }
        if pairs:
            add_pairs(self._connection, pairs, indexed=True)
        self._keep_receipts(requests, first)
        self._meta.begin()
        self._meta.row.cjk_cursor = self._last
        self._meta.write()
        self._meta.absorb()

    def _keep_receipts(self, requests: list[Waiting], first: int) -> None:
        by_client: dict[bytes, list[tuple[int, int, int, bytes]]] = {}
        for transport, number, rows, data in requests:
            client = self._clients.get(transport)
            if client is None:
                client = self._clients[transport] = os.urandom(16)
            by_client.setdefault(client, []).append((number, first, len(rows), data))
            first += len(rows)
        runs = []
        for client, decided in by_client.items():
            run = ChannelRun(ServerChannel(floor=self._kept.get(client, 0) + 1))
            run.decided = _receipts(decided)
            run.last = self._kept[client] = decided[-1][0]
            runs.append((client, run))
        self._channels.write(runs, time.time())


def _receipts(decided: list[tuple[int, int, int, bytes]]) -> list[Receipts]:
    found: list[Receipts] = []
    start = 0
    while start < len(decided):
        number, first, count, data = decided[start]
        if count > 1:
            result = msgspec.Raw(msgspec.msgpack.encode(list(range(first, first + count))))
            found.append(Receipt(number, digest(MessageAppendMany.METHOD, data), None, result))
            start += 1
            continue
        end = start + 1
        while end < len(decided) and decided[end][1] == first + end - start:
            end += 1
        together = digests(MessageAppend.METHOD, [each[3] for each in decided[start:end]])
        found.append(IdReceipts(number, first, together))
        start = end
    return found


def prepare(settings: Settings, text: Sequence[str]) -> None:
    """Make the file with the daemon's tables, and start the daemon."""
    raw.prepare(settings, text)
    plain = set(base_statements())
    with raw.connect(settings.database) as connection:
        for statement in schema.statements():
            if statement not in plain:
                connection.execute(statement)
        connection.execute(_ADD_META)
    connection.close()
    sketch.start(settings, KeepingBatches)


class KeepingStore(SketchStore):
    """Requests as bytes within bytes, so that the daemon has what it makes digests of."""

    def _request(self, operation: Operation) -> bytes:
        return bytes(self._pack((self._sent, self._pack(sketch.rows_of(operation)))))


PEER: Final = replace(sketch.PEER, name="keeping", prepare=prepare, open_store=KeepingStore)

if __name__ == "__main__":
    sys.exit(main(PEER))
