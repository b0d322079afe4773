"""Channels and receipts in the database: what makes a resent write recognisable."""

from collections.abc import Iterable

import apsw

from sessiond_protocol.channel import ChannelRun, ServerChannel, load_receipts, store_receipts


class Channels:
    """The channels the writer knows, as of its last commit, and their rows.

    Only the writer thread uses it.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._channels: dict[bytes, ServerChannel] = {}

    def get(self, client_id: bytes) -> ServerChannel:
        """A channel's committed state; an unknown one is new."""
        channel = self._channels.get(client_id)
        if channel is None:
            channel = self._channels[client_id] = self._load(client_id)
        return channel

    def forget(self, client_id: bytes) -> None:
        """Drop a channel from memory; its rows stay."""
        self._channels.pop(client_id, None)

    def clear(self) -> None:
        """Drop everything from memory: the file's history changed."""
        self._channels.clear()

    def _load(self, client_id: bytes) -> ServerChannel:
        rows = self._connection.execute(
            "SELECT last, floor FROM sessiond_clients WHERE client = ?", (client_id,)
        ).fetchall()
        if not rows:
            return ServerChannel()
        last, floor = rows[0]
        channel = ServerChannel(last, floor, known=True)
        stored = self._connection.execute(
            "SELECT answers FROM sessiond_receipts WHERE client = ? AND last_seq >= ?"
            " ORDER BY last_seq",
            (client_id, floor),
        ).fetchall()
        receipts = [each for (answers,) in stored for each in load_receipts(answers)]
        for receipt in sorted(receipts, key=lambda each: each.seq):
            channel.receipts[receipt.seq] = receipt
            channel.answer_bytes += len(bytes(receipt.result))
        return channel

    def write(self, runs: Iterable[tuple[bytes, ChannelRun]], now: float) -> None:
        """Store what a run decided, inside its transaction: one row per client per batch."""
        clients, receipts, confirmed = [], [], []
        for client_id, run in runs:
            if not run.decided:
                continue
            clients.append((client_id, run.last, run.floor, now))
            kept = [receipt for receipt in run.decided if receipt.seq >= run.floor]
            if kept:
                receipts.append((client_id, run.last, kept[0].seq, store_receipts(kept)))
            confirmed.append((client_id, run.floor))
        if not clients:
            return
        self._connection.executemany(
            "INSERT INTO sessiond_clients (client, last, floor, last_seen) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (client) DO UPDATE SET last = excluded.last, floor = excluded.floor,"
            " last_seen = excluded.last_seen",
            clients,
        )
        self._connection.executemany(
            "DELETE FROM sessiond_receipts WHERE client = ? AND last_seq < ?", confirmed
        )
        self._connection.executemany(
            "INSERT INTO sessiond_receipts (client, last_seq, first_seq, answers)"
            " VALUES (?, ?, ?, ?)",
            receipts,
        )

    def absorb(self, runs: Iterable[tuple[bytes, ChannelRun]]) -> None:
        """Take over what was decided, after the commit."""
        for client_id, run in runs:
            self.get(client_id).absorb(run)
