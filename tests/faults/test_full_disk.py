"""No room: writes are refused, reads go on, and it recovers by itself when there is room again."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond_client import DiskFull, SessionDB
from tests.support.faults import FaultyDaemon

SIZE = 4 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[FaultyDaemon]:
    """A running daemon on a file system of four mebibytes."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    (folder / "log").symlink_to(tmp_path / "log")  # which has room
    made = FaultyDaemon(folder)
    try:
        made.start()
        yield made
    finally:
        if made.process is not None:
            made.kill()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Take all the room that is left, but for some bytes."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
        file.truncate(max(0, file.tell() - leave))
    return filler


def write_until_full(db: SessionDB) -> list[str]:
    """Append until there is no room; what was answered."""
    stored: list[str] = []
    while len(stored) < 10_000:
        text = f"message {len(stored)} {'x' * 2000}"
        error = db.append_message_nowait("s", "user", text).exception()
        if error is not None:
            assert isinstance(error, DiskFull)
            assert error.data == {"applied": False}
            return stored
        stored.append(text)
    raise AssertionError("there is always room")


def test_writes_are_refused_reads_go_on_and_room_heals(small: FaultyDaemon) -> None:
    pid = small.pid
    with SessionDB(**small.arguments, reads="daemon") as db:
        db.create_session("s", "test")
        db.append_message("s", "user", "before")
        filler = fill(small.folder)
        stored = ["before", *write_until_full(db)]
        for _ in range(3):
            futures = [db.append_message_nowait("s", "user", "y" * 4000) for _ in range(5)]
            assert {type(future.exception()) for future in futures} == {DiskFull}
            assert [each["content"] for each in db.get_messages("s")] == stored
        assert len(db.search_messages("before")) == 1
        assert db.get_stats()["writable"] is True
        filler.unlink()
        futures = [db.append_message_nowait("s", "user", f"after {n}") for n in range(5)]
        assert [future.exception() for future in futures] == [None] * 5
        stored += [f"after {n}" for n in range(5)]
        assert [each["content"] for each in db.get_messages("s")] == stored
        assert small.pid == pid
        session = db.get_session("s")
        assert session is not None
        assert session["message_count"] == len(stored)


def test_stopping_without_room_answers_everybody_and_loses_nothing(small: FaultyDaemon) -> None:
    with SessionDB(**small.arguments, reads="daemon") as db:
        db.create_session("s", "test")
        filler = fill(small.folder)
        stored = write_until_full(db)
        small.stop()
        filler.unlink()
        small.start()
        assert [each["content"] for each in db.get_messages("s")] == stored
        assert db.append_message("s", "user", "after") > 0


def test_a_start_that_has_no_room_is_refused_and_changes_nothing(small: FaultyDaemon) -> None:
    with SessionDB(**small.arguments, reads="daemon") as db:
        db.create_session("s", "test")
        db.append_message("s", "user", "before")
        small.stop()
        filler = fill(small.folder)
        before = small.database.read_bytes()
        small.launch()
        assert small.await_end() == 73
        assert small.database.read_bytes() == before
        filler.unlink()
        small.start()
        assert "its file system is full" in small.log
        assert [each["content"] for each in db.get_messages("s")] == ["before"]


def test_after_a_crash_without_room_it_serves_what_there_is(small: FaultyDaemon) -> None:
    """There is room for a commit, but not for what the log holds for the database."""
    with SessionDB(**small.arguments, reads="daemon") as db:
        db.create_session("s", "test")
        filler = fill(small.folder, leave=1 << 20)
        stored = write_until_full(db)
        small.kill()
        filler.unlink()
        filler = fill(small.folder, leave=65_536)
        small.start()
        assert "cannot be emptied at the start" in small.log
        assert [each["content"] for each in db.get_messages("s")] == stored
        filler.unlink()
        assert db.append_message("s", "user", "after") > 0
