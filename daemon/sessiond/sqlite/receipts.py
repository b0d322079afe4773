"""Channels and receipts in the database: what makes a resent write recognisable."""

import logging
from collections.abc import Collection, Iterable

import apsw

from sessiond.sqlite.ask import rows, value
from sessiond_protocol.channel import ChannelRun, ServerChannel
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.expiry import MAX_ROWS
from sessiond_protocol.receipts import Receipts, load_receipts, store_receipts

log = logging.getLogger("sessiond.store")


class Channels:
    """The channels the writer knows, as of its last commit, and their rows.

    Only the writer thread uses it. ``touched`` gathers which channels were asked for, and
    ``crowded`` tells that one found no room, for those who make it.
    """

    def __init__(self, connection: apsw.Connection, max_rows: int = MAX_ROWS) -> None:
        self._connection = connection
        self._channels: dict[bytes, ServerChannel] = {}
        self.max_rows = max_rows
        self.touched: set[bytes] = set()
        self.crowded = False

    def get(self, client_id: bytes) -> ServerChannel:
        """A channel's committed state; an unknown one is new."""
        self.touched.add(client_id)
        channel = self._channels.get(client_id)
        if channel is None:
            channel = self._channels[client_id] = self._load(client_id)
        return channel

    def readable(self, client_id: bytes) -> ServerChannel:
        """The same; a new one's where the file is too damaged to say."""
        try:
            return self.get(client_id)
        except apsw.Error as error:
            log.warning("the state of a channel cannot be read: %s", error)
            return ServerChannel()

    def admit(self, client_id: bytes) -> ServerChannel:
        """The same for a channel that says hello.

        Raises :class:`Failure` with ``overloaded`` if it is new and there is no room for its row.
        """
        try:
            channel = self.get(client_id)
            crowded = not channel.known and self.count() >= self.max_rows
        except apsw.Error:
            # A wrong "unknown" decides nothing: whoever resends meets the receipts, or is refused.
            return self.readable(client_id)
        if crowded:
            self.crowded = True
            self.forget(client_id)
            raise Failure(
                Code.OVERLOADED,
                f"{self.max_rows} channels are remembered already; there is room again when some"
                " have not been connected for an hour",
            )
        return channel

    def count(self) -> int:
        """How many channels have a row."""
        return int(value(self._connection, "SELECT count(*) FROM sessiond_clients"))

    def forget(self, client_id: bytes) -> None:
        """Drop a channel from memory; its rows stay."""
        self._channels.pop(client_id, None)

    def keep_only(self, connected: Collection[bytes]) -> None:
        """Drop from memory whatever has no connection; it is read again when it is asked for."""
        for client_id in [each for each in self._channels if each not in connected]:
            del self._channels[client_id]

    def clear(self) -> None:
        """Drop everything from memory: the file's history changed."""
        self._channels.clear()

    def _load(self, client_id: bytes) -> ServerChannel:
        found = rows(
            self._connection,
            "SELECT last, floor FROM sessiond_clients WHERE client = ?",
            (client_id,),
        )
        if not found:
            return ServerChannel()
        last, floor = found[0]
        channel = ServerChannel(last, floor, known=True)
        stored = rows(
            self._connection,
            "SELECT answers FROM sessiond_receipts WHERE client = ? AND last_seq >= ?",
            (client_id, floor),
        )
        receipts = [each for (answers,) in stored for each in load_receipts(answers)]
        channel.keep(sorted((each for each in receipts if each.seq >= floor), key=_seq))
        return channel

    def write(self, runs: Iterable[tuple[bytes, ChannelRun]], now: float) -> None:
        """Store what a run decided, inside its transaction: one row per client per batch."""
        clients, receipts, confirmed = [], [], []
        for client_id, run in runs:
            if not run.decided:
                continue
            clients.append((client_id, run.last, run.floor, now))
            kept = [receipt for receipt in run.decided if receipt.last >= run.floor]
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

    def remove(self, client_ids: Collection[bytes]) -> None:
        """Delete the rows of channels, inside a transaction; :meth:`forget` them after it."""
        for table in ("sessiond_receipts", "sessiond_clients"):
            self._connection.executemany(
                f"DELETE FROM {table} WHERE client = ?", [(each,) for each in client_ids]
            )

    def seen(self, client_ids: Collection[bytes], now: float) -> None:
        """Note inside a transaction that channels are in use, though they decide nothing."""
        self._connection.executemany(
            "UPDATE sessiond_clients SET last_seen = ? WHERE client = ?",
            [(now, each) for each in client_ids],
        )

    def ages(self, after: bytes, limit: int) -> list[tuple[bytes, float]]:
        """``(client id, last seen)`` of the next rows in the order of their ids."""
        found = rows(
            self._connection,
            "SELECT client, last_seen FROM sessiond_clients WHERE client > ?"
            " ORDER BY client LIMIT ?",
            (after, limit),
        )
        return [(client_id, last_seen) for client_id, last_seen in found]


def _seq(receipt: Receipts) -> int:
    return receipt.seq
