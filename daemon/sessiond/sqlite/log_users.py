"""Who uses the log of a database, as the locks in its shared-memory file say."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from sessiond.sqlite import file_locks
from sessiond.sqlite.log_index import LogIndex

# From SQLite's "WAL-mode File Format", section 2.3: one byte each for writing, checkpointing and
# recovery, then one for each of the five read marks.
FIRST_BYTE: Final = 120
FIRST_READER: Final = 123
BYTES: Final = 8


class Role(Enum):
    """What a lock is for."""

    WRITER = "writer"
    CHECKPOINTER = "checkpointer"
    RECOVERY = "recovery"
    READER = "reader"


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A process that uses the log. ``pid`` is 0 if it cannot be seen from here.

    ``frame`` is, for readers, the last frame of the log that they may read: nothing behind it
    can be moved into the database. 0 is a reader that uses the database alone, and while it
    reads nothing can be moved at all.
    """

    pid: int
    role: Role
    frame: int | None = None

    def __str__(self) -> str:
        return f"{file_locks.describe(self.pid)}, {self.role.value}"


def lock_holders(shared_memory: int, index: LogIndex | None) -> list[LockHolder]:
    """Every holder of a lock in the shared-memory file, our own process included.

    ``shared_memory`` is a descriptor of it; ``index`` says where readers stand.
    """
    found = set()
    for lock in file_locks.holders(shared_memory, FIRST_BYTE, BYTES):
        for byte in range(max(lock.first, FIRST_BYTE), min(lock.last + 1, FIRST_BYTE + BYTES)):
            holder = _lock_holder(lock, byte, index)
            if holder is not None:
                found.add(holder)
    return sorted(found, key=lambda each: (each.role.value, each.frame or 0, each.pid))


def _lock_holder(lock: file_locks.ByteLock, byte: int, index: LogIndex | None) -> LockHolder | None:
    if byte < FIRST_READER:
        role = (Role.WRITER, Role.CHECKPOINTER, Role.RECOVERY)[byte - FIRST_BYTE]
        return LockHolder(lock.pid, role)
    if lock.exclusive:
        return None  # somebody is moving a read mark, which takes no time
    return LockHolder(lock.pid, Role.READER, index.marks[byte - FIRST_READER] if index else 0)
