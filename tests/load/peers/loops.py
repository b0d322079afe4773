"""How a worker hands operations to a store whose transactions hold many of them."""

from collections.abc import Iterator
from typing import Protocol

from sessiond_client.bench.latency import Notes
from sessiond_client.bench.loops import Store
from sessiond_client.bench.operations import Operation, messages_in


class GroupStore(Store, Protocol):
    """A store whose operations become durable together."""

    def begin(self) -> None:
        """Open a group."""
        ...

    def commit(self) -> None:
        """Make every operation since ``begin`` durable."""
        ...


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
