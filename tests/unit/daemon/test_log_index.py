"""The head of the shared-memory file, compared with what SQLite says."""

import os
import struct
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.sqlite import log_index
from sessiond.sqlite.log_index import LogIndex

PASSIVE = apsw.SQLITE_CHECKPOINT_PASSIVE
TRUNCATE = apsw.SQLITE_CHECKPOINT_TRUNCATE


def _head(
    page_size: int = 4096, frames: int = 0, pages: int = 0, moved: int = 0, initialised: int = 1
) -> bytes:
    encoded = (page_size & 0xFE00) | (page_size >> 16)
    copy = struct.pack("=IIIBBHII", 3007000, 0, 1, initialised, 0, encoded, frames, pages)
    marks = struct.pack("=I5I", moved, 0, frames, *[0xFFFFFFFF] * 3)
    return (copy + bytes(24)) * 2 + marks + bytes(16)


@given(
    st.sampled_from([512 << shift for shift in range(8)]),
    st.integers(0, 2**31),
    st.integers(0, 2**31),
    st.integers(0, 2**31),
)
def test_every_field_is_read(page_size: int, frames: int, pages: int, moved: int) -> None:
    found = log_index.parse(_head(page_size, frames, pages, moved))
    assert found is not None
    assert (found.page_size, found.frames, found.pages, found.moved) == (
        page_size,
        frames,
        pages,
        moved,
    )
    assert found.marks[1] == frames


def test_a_head_that_is_being_written_is_none() -> None:
    torn = bytearray(_head(frames=3))
    torn[16] ^= 1
    assert log_index.parse(bytes(torn)) is None


@pytest.mark.parametrize("head", [b"", bytes(log_index.SIZE), _head()[:-1], _head(initialised=0)])
def test_what_is_no_head_is_none(head: bytes) -> None:
    assert log_index.parse(head) is None


def _look(path: Path) -> LogIndex:
    """Read by a descriptor of its own; the test's connection needs its locks no more then."""
    descriptor = os.open(f"{path}-shm", os.O_RDONLY)
    try:
        found = log_index.parse(os.pread(descriptor, log_index.SIZE, 0))
    finally:
        os.close(descriptor)
    assert found is not None
    return found


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_it_says_what_sqlite_says(tmp_path: Path, page_size: int) -> None:
    path = tmp_path / "x.db"
    connection = apsw.Connection(str(path))
    try:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (a)")
        for _ in range(5):
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        index = _look(path)
        assert index.page_size == page_size
        assert index.pages == connection.pragma("page_count")
        assert index.log_bytes == os.stat(f"{path}-wal").st_size
        assert index.database_bytes == 0

        frames = connection.wal_checkpoint(mode=PASSIVE)
        assert (_look(path).frames, _look(path).moved) == frames
        assert _look(path).database_bytes == path.stat().st_size

        connection.execute("DELETE FROM t")
        connection.execute("VACUUM")
        assert _look(path).database_bytes == 0
        connection.wal_checkpoint(mode=TRUNCATE)
        assert _look(path).log_bytes == 0 == os.stat(f"{path}-wal").st_size
        assert _look(path).database_bytes == path.stat().st_size
    finally:
        connection.close()


def test_the_moment_changes_with_commits_and_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = apsw.Connection(str(path))
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        moments = []
        for step in ("CREATE TABLE t (a)", "INSERT INTO t VALUES (1)", "PRAGMA wal_checkpoint"):
            connection.execute(step).fetchall()
            moments.append(_look(path).moment)
        assert len(set(moments)) == 3
        connection.execute("SELECT * FROM t").fetchall()
        assert _look(path).moment == moments[-1]
    finally:
        connection.close()
