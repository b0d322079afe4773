"""Locks on bytes of a file, and who holds them."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.sqlite import file_locks
from sessiond.sqlite.file_locks import READ, WRITE, ByteLock
from tests.support.foreign import Foreign

_LOCK_BYTES = """
file = open(path, "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 1, 7)
fcntl.lockf(file, fcntl.LOCK_SH, 2, 20)
pause()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "f").touch()
    return tmp_path / "f"


@pytest.fixture
def two(path: Path) -> Iterator[tuple[int, int]]:
    """Two opens of one file."""
    descriptors = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_written_byte_belongs_to_one_open_of_the_file(two: tuple[int, int]) -> None:
    assert file_locks.take(two[0], WRITE, 2**62, 1)
    assert not file_locks.take(two[1], WRITE, 2**62, 1)
    assert not file_locks.take(two[1], READ, 2**62, 1)
    assert file_locks.take(two[1], WRITE, 2**62 + 1, 1)


def test_a_read_byte_is_shared(two: tuple[int, int]) -> None:
    assert file_locks.take(two[0], READ, 5, 1)
    assert file_locks.take(two[1], READ, 5, 1)
    assert not file_locks.take(two[1], WRITE, 5, 1)


def test_the_lock_outlives_another_close_of_the_file(path: Path, two: tuple[int, int]) -> None:
    assert file_locks.take(two[0], WRITE, 5, 1)
    os.close(os.open(path, os.O_RDWR))
    assert not file_locks.take(two[1], WRITE, 5, 1)


def test_other_failures_are_not_taken_for_a_held_lock(two: tuple[int, int], path: Path) -> None:
    reader = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            file_locks.take(reader, WRITE, 5, 1)
    finally:
        os.close(reader)


@pytest.fixture(params=["listed", "asked for"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the kernel's list of locks, and where it cannot be read."""
    if request.param == "asked for":
        monkeypatch.setattr(file_locks, "_PROC_LOCKS", "/nonexistent")
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_holders_are_named_with_their_bytes(path: Path, two: tuple[int, int]) -> None:
    with Foreign(_LOCK_BYTES, path) as foreign:
        foreign.wait_for_pause()
        writer = ByteLock(foreign.pid, 7, 7, exclusive=True)
        reader = ByteLock(foreign.pid, 20, 21, exclusive=False)
        assert file_locks.holders(two[0], 4, 8) == [writer]
        assert file_locks.holders(two[0], 21, 2) == [reader]
        assert file_locks.holders(two[0], 8, 8) == []
    assert file_locks.holders(two[0], 0, 100) == []


def test_all_readers_of_one_byte_are_named(path: Path, two: tuple[int, int]) -> None:
    fcntl.lockf(two[1], fcntl.LOCK_SH, 1, 20)
    with Foreign(_LOCK_BYTES, path) as foreign:
        foreign.wait_for_pause()
        pids = {lock.pid for lock in file_locks.holders(two[0], 20)}
        assert pids == {foreign.pid, os.getpid()}


@pytest.mark.usefixtures("way")
def test_locks_without_a_pid_are_left_out(two: tuple[int, int]) -> None:
    assert file_locks.take(two[0], WRITE, 5, 1)
    assert file_locks.holders(two[1], 5) == []


def test_the_list_of_locks_is_read_as_the_kernel_writes_it() -> None:
    listing = (
        "1: POSIX  ADVISORY  READ 11 fe:00:99 128 128\n"
        "1: -> POSIX  ADVISORY  WRITE 12 fe:00:99 128 128\n"
        "2: POSIX  ADVISORY  WRITE 13 fe:00:99 5 EOF\n"
        "3: POSIX  ADVISORY  WRITE 14 fe:00:98 5 6\n"
        "4: OFDLCK ADVISORY  WRITE -1 fe:00:99 5 6\n"
        "5: FLOCK  ADVISORY  WRITE 15 fe:00:99 0 EOF\n"
        "6: POSIX  ADVISORY  WRITE 16 08:01:99 5 6\n"
        "nonsense\n"
    )
    assert list(file_locks.parse_proc_locks(listing, "fe:00", 99)) == [
        ByteLock(11, 128, 128, exclusive=False),
        ByteLock(13, 5, 2**63 - 1, exclusive=True),
    ]


def test_a_process_is_described_by_number_and_name() -> None:
    assert file_locks.describe(os.getpid()).startswith(f"pid {os.getpid()} (")


@pytest.mark.parametrize("pid", [None, 0, -1])
def test_a_process_that_cannot_be_seen_has_no_number(pid: int | None) -> None:
    assert file_locks.describe(pid) == "another process"


def test_a_process_that_is_gone_keeps_its_number() -> None:
    assert file_locks.describe(2**22 + 1) == f"pid {2**22 + 1}"
