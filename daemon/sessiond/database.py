"""What the writer needs of a database. SQLite is the first and default implementation."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from sessiond.work import Entry, Outcome
from sessiond_protocol.requests.feed import Event
from sessiond_protocol.requests.server import ServerHello


class UnsafeFile(Exception):
    """The file is not what was written to, or a commit's fate is unknown.

    Nothing may be answered and nothing closed: say why and leave the process.
    """


class Applied(msgspec.Struct, frozen=True):
    """What one batch came to: what was applied or refused, and what watchers want to know.

    ``works`` is the batch, of which a burst may have been taken apart; ``outcomes`` has one for
    each of them, :class:`~sessiond.work.Appended` for a burst.

    ``last_message_id`` is the highest id this batch gave, zero if none. ``runs`` is how often
    the batch had to be run. Times are seconds; ``sync_seconds`` is the part of the commit in
    which the thread waited: for the disk, and on a crowded machine for a processor.
    """

    works: Sequence[Entry]
    outcomes: list[Outcome]
    events: list[Event]
    last_message_id: int
    runs: int
    begin_seconds: float
    apply_seconds: float
    commit_seconds: float
    sync_seconds: float = 0.0


class Greeting(msgspec.Struct, frozen=True):
    """What hello's answer says of a channel and of the file."""

    known: bool
    last: int
    generation: bytes


class CheckpointResult(msgspec.Struct, frozen=True):
    """A checkpoint's result as SQLite reports it: pages in the log, pages moved."""

    busy: bool = False
    log: int = 0
    checkpointed: int = 0


class Database(Protocol):
    """The writer's one door to the database. Only the writer thread calls it."""

    def apply(self, works: Sequence[Entry]) -> Applied:
        """Apply a batch in one transaction. Raises :class:`UnsafeFile` and nothing else."""
        ...

    @property
    def foreign_commits(self) -> int:
        """Rises when another program's commit was noticed."""
        ...

    def look(self) -> None:
        """Notice another program's commits, between two batches."""
        ...

    def greet(self, hello: ServerHello) -> Greeting:
        """The state of a channel, as of the last commit."""
        ...

    def status(self, client_id: bytes, seq: int) -> str:
        """What became of a number."""
        ...

    def care(self, idle: bool) -> bool:
        """A slice of housekeeping between batches; True if there is more to do."""
        ...

    def health(self) -> dict[str, Any]:
        """States and figures for people and metrics."""
        ...

    def close(self) -> None:
        """Checkpoint what can be moved, then close."""
        ...
