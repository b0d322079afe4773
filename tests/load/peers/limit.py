"""Peer *limit*: the loop of *raw* with triggers off and the index written once per transaction.

The fastest that this schema goes with everything indexed: one ``INSERT ... SELECT`` into
``messages_fts`` just before each commit. Writes only; reads would be those of *raw*.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import apsw

from sessiond_client.bench.operations import WRITES
from tests.load.peers import raw
from tests.load.peers.common import main
from tests.load.peers.plain import INDEX_AFTER, LAST_MESSAGE


class LimitStore(raw.RawStore):
    """The store of *raw*, with the index maintained by itself."""

    def __init__(self, database: Path, worker: int) -> None:
        super().__init__(database, worker)
        self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        self._indexed = self._last_message()

    def commit(self) -> None:
        """Index what the transaction stored, then make it durable."""
        last = self._last_message()
        if last > self._indexed:
            self._connection.execute(INDEX_AFTER, (self._indexed,))
        super().commit()
        self._indexed = last

    def _last_message(self) -> int:
        (last,) = self._connection.execute(LAST_MESSAGE).fetchall()[0]
        if not isinstance(last, int):
            raise TypeError(f"the last message id is {last!r}, not an integer")
        return last


PEER: Final = replace(
    raw.PEER,
    name="limit",
    mixes=WRITES,
    missing="it differs from raw in its writes only",
    open_store=LimitStore,
)

if __name__ == "__main__":
    sys.exit(main(PEER))
