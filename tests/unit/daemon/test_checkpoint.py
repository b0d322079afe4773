"""When the log is moved into the database, and what is done about one that grows."""

import fcntl
import logging
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite import pragmas
from sessiond.sqlite.checkpoint import CheckpointLimits, Checkpoints
from sessiond_protocol.requests.message import MessageAppendMany
from tests.unit.daemon.stores import Clock, Opened, foreign, message, opened

LARGE = "text " * 200  # about a quarter of a page
SMALL_LIMITS = CheckpointLimits(soft=400_000, hard=4_000_000)


def _append(file: Opened, pages: int) -> None:
    """One batch that puts at least this many pages into the log."""
    file.results(MessageAppendMany(session_id="a", messages=[message(LARGE)] * (pages * 4)))


def _log_size(file: Opened) -> int:
    return os.stat(f"{file.path}-wal").st_size


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    """Another process's reader that holds the state of now."""
    with foreign(path) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM messages").fetchall()
        yield other
        other.execute("COMMIT")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db", limits=SMALL_LIMITS) as made:
        made.append("a", "one")
        made.settle()
        yield made


def test_a_commit_never_checkpoints(file: Opened) -> None:
    before = file.path.stat().st_size
    for _ in range(3):
        _append(file, 1500)
    assert file.path.stat().st_size == before
    assert file.store.health()["log"]["pages"] > 4500


def test_between_batches_a_long_log_is_moved(file: Opened) -> None:
    _append(file, 500)
    file.store.care(idle=False)
    assert file.store.health()["checkpoint"]["checkpointed"] == 0
    _append(file, 1000)
    file.store.care(idle=False)
    health = file.store.health()
    assert health["checkpoint"]["checkpointed"] == health["checkpoint"]["log"]
    assert health["checkpoint"]["busy"] is False


def test_when_idle_everything_is_moved(file: Opened) -> None:
    file.append("a", "two")
    file.store.care(idle=True)
    health = file.store.health()
    assert health["checkpoint"]["checkpointed"] == health["checkpoint"]["log"] > 0
    with file.statements() as seen:
        file.store.care(idle=True)
    assert [sql for sql in seen if "checkpoint" in sql] == []


def test_a_log_that_is_moved_begins_again(file: Opened) -> None:
    for _ in range(20):
        file.append("a", LARGE)
        file.store.care(idle=True)
    assert file.store.health()["log"]["pages"] < 50


def test_a_log_that_begins_again_overwrites_its_old_file(tmp_path: Path) -> None:
    """A file that keeps its length is synced in half the time of one that grows."""
    with opened(tmp_path / "state.db") as file:
        file.append("a", "one")
        _append(file, 700)
        long = _log_size(file)
        file.store.care(idle=True)
        file.append("a", "two")
        assert file.store.health()["log"]["pages"] < 50
        assert _log_size(file) == long


def test_a_log_that_begins_again_is_cut_to_its_limit(file: Opened) -> None:
    with _reading(file.path):
        _append(file, 500)
    assert _log_size(file) > SMALL_LIMITS.soft
    file.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    file.append("a", "two")
    assert 0 < _log_size(file) <= SMALL_LIMITS.soft


def test_under_a_higher_limit_the_log_is_moved_less_often(tmp_path: Path) -> None:
    with opened(tmp_path / "state.db") as file:
        file.append("a", "one")
        _append(file, 1200)
        file.store.care(idle=False)
        assert file.store.health()["checkpoint"]["checkpointed"] == 0
        _append(file, 3000)
        file.store.care(idle=False)
        assert file.store.health()["checkpoint"]["checkpointed"] > 4000


def test_a_reader_in_the_way_is_not_waited_for(tmp_path: Path) -> None:
    limits = CheckpointLimits(soft=16 << 20)
    with opened(tmp_path / "state.db", limits=limits) as file, _reading(file.path):
        file.append("a", "one")
        _append(file, 1200)
        with file.statements() as seen:
            for _ in range(5):
                file.store.care(idle=False)
        assert [sql for sql in seen if "checkpoint" in sql] == ["PRAGMA wal_checkpoint(PASSIVE)"]
        # Once more for a thousand pages more, or when a second has passed and nobody writes.
        with file.statements() as seen:
            file.clock.advance(1)
            file.store.care(idle=True)
        assert len([sql for sql in seen if "PASSIVE" in sql]) == 1


def test_behind_a_reader_far_back_nobody_is_stopped_in_vain(tmp_path: Path) -> None:
    limits = CheckpointLimits(soft=4_000_000)
    with opened(tmp_path / "state.db", limits=limits) as file, _reading(file.path):
        file.append("a", "one")
        _append(file, 1200)
        assert file.store.health()["log"]["bytes"] > limits.soft
        with file.statements() as seen:
            file.store.care(idle=False)
        assert [sql for sql in seen if "checkpoint" in sql] == ["PRAGMA wal_checkpoint(PASSIVE)"]


def test_past_the_soft_limit_the_log_is_emptied(file: Opened) -> None:
    _append(file, 1200)
    assert _log_size(file) > SMALL_LIMITS.soft
    file.store.care(idle=False)
    assert _log_size(file) == 0
    assert file.store.health()["log"] == {
        "pages": 0,
        "bytes": 0,
        "pinned": False,
        "pinned_by": [],
        "failure": None,
    }


class Watched(apsw.Connection):
    """Notes how long it would wait for others, and waits for nobody."""

    def set_busy_timeout(self, milliseconds: int) -> None:
        if milliseconds:
            waits.append(milliseconds)
        super().set_busy_timeout(0)


waits: list[int] = []


def test_emptying_is_tried_once_a_second_with_little_time(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    opened_ = Watched(str(path))
    try:
        pragmas.configure(opened_, 1024)
        pragmas.use_write_ahead_log(opened_)
        opened_.execute("CREATE TABLE messages (text)")
        _try_to_empty(opened_, path)
    finally:
        opened_.close()


def _try_to_empty(connection: Watched, path: Path) -> None:
    clock = Clock()
    checkpoints = Checkpoints(connection, clock, CheckpointLimits(soft=40_000, hard=400_000))

    def tries(seconds: float) -> list[int]:
        waits.clear()
        clock.advance(seconds)
        for _ in range(3):
            checkpoints.step(idle=False)
        return list(waits)

    def write(pages: int) -> None:
        connection.execute("INSERT INTO messages VALUES (zeroblob(?))", (pages * 4096,))

    with _reading(path):
        write(15)
        assert tries(0) == [50]
        assert tries(0.9) == []
        assert tries(0.1) == [50]
        write(30)
        assert tries(1) == [250]  # past four times the limit: longer, but seldom
        assert [tries(1) for _ in range(4)] == [[50]] * 4
        assert tries(1) == [250]
        assert checkpoints.last.busy
    assert tries(1) == [50]  # and a second after the reader has let go
    assert checkpoints.pages == 0
    assert not checkpoints.last.busy


def test_a_pinned_log_is_told_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    limits = CheckpointLimits(soft=10_000, hard=100_000)
    with opened(path, limits=limits, holders=lambda: ["pid 4711, reader"]) as file:
        file.append("a", "one")
        file.settle()
        with _reading(path), caplog.at_level(logging.WARNING, "sessiond.checkpoint"):
            _append(file, 100)
            for _ in range(61):
                file.store.care(idle=True)
                file.clock.advance(1)
            assert file.store.health()["log"]["pinned"] is True
            told = [record.message for record in caplog.records if "log pinned" in record.message]
            assert len(told) == 2
            assert "(pid 4711, reader)" in told[0]
            assert file.store.health()["log"]["pinned_by"] == ["pid 4711, reader"]
        file.clock.advance(10)
        file.store.care(idle=True)
        assert file.store.health()["log"]["pinned"] is False
        assert file.results(MessageAppendMany(session_id="a", messages=[message("goes on")]))


def test_readers_that_overlap_do_not_keep_the_log_from_being_emptied(file: Opened) -> None:
    stop = threading.Event()

    def read() -> None:
        with foreign(file.path) as other:
            while not stop.is_set():
                other.execute("SELECT sum(length(content)) FROM messages").fetchall()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for each in readers:
        each.start()
    try:
        emptied = 0
        deadline = time.monotonic() + 10
        while emptied < 3 and time.monotonic() < deadline:
            _append(file, 100)
            file.clock.advance(1)
            file.store.care(idle=False)
            emptied += file.store.health()["log"]["pages"] == 0
    finally:
        stop.set()
        for each in readers:
            each.join()
    assert emptied == 3


def test_a_checkpoint_that_fails_is_told_and_tried_again(file: Opened) -> None:
    file.append("a", "two")
    with foreign(file.path) as other:
        other.execute("BEGIN IMMEDIATE")
        _ = file.store.care(idle=True)  # passive: needs no writer's lock
        assert file.store.health()["log"]["failure"] is None
        other.execute("ROLLBACK")


# --- under the guard ---------------------------------------------------------------------------


@contextmanager
def _guarded(file: Opened) -> Iterator[None]:
    """Open-file-description read locks where the daemon's guard has them."""
    descriptors = []
    try:
        for path, first, length in (
            (str(file.path), 0x4000_0002, 510),
            (f"{file.path}-shm", 128, 1),
        ):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            descriptors.append(descriptor)
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, first, length, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        yield
    finally:
        # Only once SQLite has closed the file: closing drops its own locks.
        file.store.close()
        for descriptor in descriptors:
            os.close(descriptor)


def test_under_the_guard_the_log_can_still_be_emptied(tmp_path: Path) -> None:
    file = Opened(tmp_path / "state.db", limits=SMALL_LIMITS)
    with _guarded(file):
        file.append("a", "one")
        _append(file, 1200)
        file.store.care(idle=False)
        assert _log_size(file) == 0
        file.append("a", "two")
    assert _log_size(file) == 0


# --- the end -----------------------------------------------------------------------------------


def test_a_log_that_cannot_be_emptied_at_the_end_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    file = Opened(path)
    with _reading(path):
        file.append("a", "one")
        with caplog.at_level(logging.WARNING, "sessiond.checkpoint"):
            file.store.close()
        assert f"{path}-wal belongs to the database and must move with it" in caplog.text
        assert _log_size(file) > 0
    with opened(path) as again:
        assert again.value("SELECT content FROM messages") == "one"


def test_checkpoints_are_counted_by_what_came_of_them(file: Opened) -> None:
    before = file.store.health()["checkpoints"]
    with _reading(file.path):
        file.append("a", "two")
        file.settle()
    file.append("a", "three")
    file.settle()
    after = file.store.health()["checkpoints"]
    more = {
        result: count - before["results"]["passive"][result]
        for result, count in after["results"]["passive"].items()
    }
    assert more["partial"] >= 1
    assert more["complete"] >= 1
    assert more["failed"] == 0
    assert after["seconds"]["count"] - before["seconds"]["count"] == sum(more.values())
    assert after["age"] is not None
