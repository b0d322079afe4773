"""The head of SQLite's shared-memory file: how long the log is, and what readers still need.

Layout from SQLite's "WAL-mode File Format", section 2: two copies of a 48-byte header, then the
number of frames moved into the database and five read marks, all in native byte order.
"""

import struct
from typing import Final

import msgspec

SIZE: Final = 136  # with the lock bytes, which are never read or written
READERS: Final = 5

_COPY: Final = 48
# version, unused, changes, initialised, checksum order, page size, frames, pages; then
# checksums and salts
_HEADER: Final = struct.Struct("=IIIBBHII24x")
_CHECKPOINT: Final = struct.Struct("=I5I")
_LOG_HEADER: Final = 32
_FRAME_HEADER: Final = 24


class LogIndex(msgspec.Struct, frozen=True):
    """``frames`` in the log, of which ``moved`` are in the database, too; ``pages`` is the
    database's size. ``marks`` are the frames up to which each kind of reader reads."""

    frames: int
    moved: int
    page_size: int
    pages: int
    marks: tuple[int, ...]
    changes: int  # rises with every commit
    stamp: bytes  # changes with every commit and with every restart of the log

    @property
    def moment(self) -> tuple[bytes, int]:
        """Equal for two looks only if nobody committed or checkpointed in between."""
        return self.stamp, self.moved

    @property
    def log_bytes(self) -> int:
        """What the log must at least hold."""
        return _LOG_HEADER + self.frames * (_FRAME_HEADER + self.page_size) if self.frames else 0

    @property
    def database_bytes(self) -> int:
        """What the database must at least hold; 0 while some of it is in the log alone."""
        return self.pages * self.page_size if self.moved == self.frames else 0


def parse(head: bytes) -> LogIndex | None:
    """The first :data:`SIZE` bytes of the file, or None while a writer is changing them."""
    if len(head) < SIZE:
        return None
    stamp = head[:_COPY]
    if stamp != head[_COPY : 2 * _COPY]:
        return None
    _, _, changes, initialised, _, size, frames, pages = _HEADER.unpack(stamp)
    if not initialised:
        return None
    moved, *marks = _CHECKPOINT.unpack_from(head, 2 * _COPY)
    page_size = (size & 0xFE00) + ((size & 1) << 16)  # 65536 does not fit and is stored as 1
    return LogIndex(frames, moved, page_size, pages, tuple(marks), changes, stamp)
