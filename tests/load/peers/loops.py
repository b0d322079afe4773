"""How a worker hands operations to its store: one at a time, or in groups."""

import sqlite3
from collections.abc import Iterator
from typing import Protocol

from tests.load.peers.latency import Notes
from tests.load.peers.operations import Operation, messages_in


class Store(Protocol):
    """A worker's own way to the database."""

    def perform(self, operation: Operation) -> None:
        """Do one operation; a write is durable when this returns, unless a group is open."""
        ...

    def close(self) -> None:
        """Finish what was begun and let go of the database."""
        ...


class GroupStore(Store, Protocol):
    """A store whose operations become durable together."""

    def begin(self) -> None:
        """Open a group."""
        ...

    def commit(self) -> None:
        """Make every operation since ``begin`` durable."""
        ...


def one_at_a_time(store: Store, operations: Iterator[Operation], notes: Notes) -> None:
    """Start the next operation when the last one was answered.

    A database error is noted and the work goes on, as an agent's would.
    """
    while notes.more():
        operation = next(operations)
        started = notes.start()
        try:
            store.perform(operation)
        except sqlite3.Error as exc:
            notes.fail(exc)
        else:
            notes.answered(started, messages_in(operation))


def in_groups(size: int, store: GroupStore, operations: Iterator[Operation], notes: Notes) -> None:
    """Commit whenever a group holds ``size`` messages; each operation is answered by its commit.

    An operation without messages weighs as much as one message.
    """
    while notes.more():
        group: list[tuple[float, int]] = []
        weight = 0
        store.begin()
        while weight < size and notes.more():
            operation = next(operations)
            messages = messages_in(operation)
            weight += messages or 1
            group.append((notes.start(), messages))
            store.perform(operation)
        store.commit()
        for started, messages in group:
            notes.answered(started, messages)
