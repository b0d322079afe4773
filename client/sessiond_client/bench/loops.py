"""How a worker hands operations to its store, one at a time."""

import sqlite3
from collections.abc import Iterator
from typing import Protocol

from sessiond_client.bench.latency import Notes
from sessiond_client.bench.operations import Operation, messages_in
from sessiond_protocol.errors import SessiondError


class Store(Protocol):
    """A worker's own way to the database."""

    def perform(self, operation: Operation) -> None:
        """Do one operation; a write is durable when this returns, unless a group is open."""
        ...

    def close(self) -> None:
        """Finish what was begun and let go of the database."""
        ...


def one_at_a_time(store: Store, operations: Iterator[Operation], notes: Notes) -> None:
    """Start the next operation when the last one was answered.

    An error of the database is noted and the work goes on, as an agent's would.
    """
    while notes.more():
        operation = next(operations)
        started = notes.start()
        try:
            store.perform(operation)
        except (sqlite3.Error, SessiondError) as exc:
            notes.fail(exc)
        else:
            notes.answered(started, messages_in(operation))
