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
    """Commit after every ``size`` operations; each is answered by its group's commit."""
    while notes.more():
        group: list[tuple[float, int]] = []
        store.begin()
        while len(group) < size and notes.more():
            operation = next(operations)
            group.append((notes.start(), messages_in(operation)))
            store.perform(operation)
        store.commit()
        for started, messages in group:
            notes.answered(started, messages)
