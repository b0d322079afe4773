"""What jobs do with the database: a heartbeat, a way to end them, and trust in nothing."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest

from sessiond.database import UnsafeFile
from sessiond.job import Cancelled, Job
from sessiond.sqlite import files
from sessiond.sqlite.backup import Copy
from sessiond.sqlite.jobs import backup, check, copying, rebuild, restore, vacuum
from sessiond.sqlite.jobs.turns import own_transaction
from sessiond_protocol.errors import Code, Failure
from tests.unit.daemon.stores import Opened, opened

T = TypeVar("T")


class Errands:
    """Runs them at once, and other things between them."""

    busy = False

    def __init__(self) -> None:
        self.between: Callable[[], object] = lambda: None

    def run(self, errand: Callable[[], T], meanwhile: Callable[[], None] = lambda: None) -> T:
        self.between()
        result = errand()
        meanwhile()
        return result


class Beat:
    """The heartbeat: counts, and does what a test wants at the first one."""

    def __init__(self) -> None:
        self.count = 0
        self.act: Callable[[], object] = lambda: None

    def __call__(self) -> None:
        self.count += 1
        self.act()


@pytest.fixture
def beat() -> Beat:
    return Beat()


@pytest.fixture
def file(tmp_path: Path, beat: Beat) -> Iterator[Opened]:
    with opened(tmp_path / "state.db", beat=beat) as made:
        for number in range(20):
            made.append("s", *(f"{number} {n} some words" for n in range(500)))
        made.settle()
        yield made


@pytest.fixture
def errands() -> Errands:
    return Errands()


@pytest.fixture
def job(errands: Errands) -> Job:
    return Job(1, "test", errands)


def sizes(file: Opened) -> list[Any]:
    return [file.value(f"PRAGMA {name}") for name in ("page_count", "freelist_count")]


# --- vacuum ------------------------------------------------------------------------------------


def test_a_vacuum_feeds_the_heartbeat_and_keeps_what_is_known(
    file: Opened, job: Job, beat: Beat
) -> None:
    file.connection.execute("DELETE FROM messages WHERE id % 2")
    schema = file.store.health()["schema"]
    before, beat.count = file.store.foreign_commits, 0
    result = vacuum.run(job, file.store)
    assert result["bytes_after"] < result["bytes_before"]
    assert beat.count > 0
    assert file.value("PRAGMA temp_store") == 2  # in memory, as before
    file.settle()
    assert file.store.foreign_commits == before
    assert file.store.health()["schema"] == schema
    assert file.append("s", "afterwards") == [10_001]


def test_a_vacuum_that_is_ended_changes_nothing(file: Opened, job: Job, beat: Beat) -> None:
    file.connection.execute("DELETE FROM messages WHERE id % 2")
    before = sizes(file)
    beat.act = job.cancel
    with pytest.raises(Cancelled):
        vacuum.run(job, file.store)
    assert sizes(file) == before
    assert file.append("s", "afterwards") == [10_001]


def test_a_disk_error_in_what_a_job_writes_is_an_alarm(file: Opened, job: Job) -> None:
    with (
        pytest.raises(UnsafeFile, match="the fate of a commit is unknown: disk"),
        own_transaction(job, file.store),
    ):
        raise apsw.IOError("disk I/O error")


@pytest.mark.parametrize(
    "run",
    [
        lambda job, store: vacuum.run(job, store),
        lambda job, store: rebuild.run(job, store),
        lambda job, store: check.run(job, store, now=True, mend=True),
    ],
    ids=["vacuum", "rebuild", "repair"],
)
def test_nothing_is_written_to_a_file_that_is_not_to_be_written(
    file: Opened, job: Job, run: Callable[[Job, Any], object]
) -> None:
    file.connection.execute("UPDATE sessions SET message_count = 1")
    commits = file.value("SELECT commits FROM sessiond_meta")
    file.store._stopped = "the database file is damaged"
    with pytest.raises(Failure, match="is damaged") as caught:
        run(job, file.store)
    assert caught.value.code is Code.DATABASE
    assert file.value("SELECT commits FROM sessiond_meta") == commits


# --- copies ------------------------------------------------------------------------------------


def test_what_is_committed_while_a_copy_is_made_is_in_it(
    file: Opened, job: Job, errands: Errands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(copying, "PAGES", 8)
    slices = 0

    def commit() -> None:
        nonlocal slices
        slices += 1
        file.append("s", f"between the slices {slices}")

    errands.between = commit
    result = backup.run(job, file.store, str(tmp_path / "copy"))
    assert slices > 10
    copy = apsw.Connection(str(tmp_path / "copy"))
    try:
        found = copy.execute("SELECT count(*) FROM messages").fetchall()
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        copy.close()
    # One errand ended the copy, and one closed it.
    assert found == [(10_000 + slices - 1,)] == [(result["messages"],)]
    assert result["restarts"] == 0


def test_a_slice_that_meets_a_lock_is_made_again(
    file: Opened, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Copy.step
    met: list[bool] = []

    def busy_once(self: Copy, pages: int) -> bool:
        if not met:
            met.append(True)
            raise apsw.BusyError("database is locked")
        return step(self, pages)

    monkeypatch.setattr(Copy, "step", busy_once)
    assert backup.run(job, file.store, str(tmp_path / "copy"))["messages"] == 10_000
    assert met


def test_a_lock_that_stays_ends_a_copy(
    file: Opened, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_copy: Copy, _pages: int) -> bool:
        raise apsw.BusyError("database is locked")

    path = tmp_path / "whole.db"
    backup.run(job, file.store, str(path))
    monkeypatch.setattr(copying, "_STANDSTILL_SECONDS", 0.001)
    monkeypatch.setattr(file.store, "lock_timeout", 0.01)
    monkeypatch.setattr(Copy, "step", busy)
    words = "keeps the database from being read for more than 0.01 s"
    with pytest.raises(Failure, match=words) as caught:
        backup.run(job, file.store, str(tmp_path / "copy"))
    assert caught.value.code is Code.DATABASE
    monkeypatch.setattr(restore._Restoring, "prepare", lambda _: None)
    with pytest.raises(Failure, match=words):
        restore.run(job, file.store, str(path))
    assert sorted(each.name for each in tmp_path.glob("*.partial")) == []


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("UPDATE sessiond_meta SET commits = 0", "the copy is not what was copied"),
        ("DELETE FROM messages WHERE id = 10000", "the copy is not what was copied"),
        (None, "the copy is damaged, and the database may be, too"),
    ],
)
def test_a_copy_that_is_not_what_was_copied_gets_no_name(
    file: Opened,
    job: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: str | None,
    words: str,
) -> None:
    def harmed(path: str) -> None:
        if harm is None:
            with open(path, "r+b") as copy:
                copy.seek(4096 * 12)
                copy.write(b"\xff" * 4096 * 20)
            return
        connection = apsw.Connection(path)
        connection.execute(harm)
        connection.close()

    monkeypatch.setattr(files, "sync", harmed)
    before = set(os.listdir(tmp_path))
    with pytest.raises(Failure, match=words) as caught:
        backup.run(job, file.store, str(tmp_path / "copy"))
    assert caught.value.code is Code.DATABASE
    assert set(os.listdir(tmp_path)) == before


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    file: Opened, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "sync", lambda _path: (tmp_path / "copy").write_text("mine"))
    with pytest.raises(Failure, match="overwrites nothing"):
        backup.run(job, file.store, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "mine"
    assert not (tmp_path / "copy.partial").exists()
