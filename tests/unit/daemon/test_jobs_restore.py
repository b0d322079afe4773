"""The restore job on a store without a daemon: what is kept, what disturbs, what is forgotten."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest

from sessiond.database import UnsafeFile
from sessiond.job import Cancelled, Job
from sessiond.sqlite.backup import Copy
from sessiond.sqlite.jobs import restore
from sessiond_protocol.errors import Code, Failure
from tests.unit.daemon.stores import Opened, appending, foreign, foreign_message, opened

T = TypeVar("T")


class Errands:
    """Runs them at once; ``before`` is called with the number of each one."""

    busy = False

    def __init__(self, before: Callable[[int], object] = lambda _number: None) -> None:
        self.before = before
        self.number = 0

    def run(self, errand: Callable[[], T], meanwhile: Callable[[], None] = lambda: None) -> T:
        self.number += 1
        self.before(self.number)
        return errand()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    """A database in which more is written than in its backup."""
    (tmp_path / "home").mkdir()
    with opened(tmp_path / "home" / "state.db") as made:
        made.append("s", "in the backup", "中文 in the backup")
        made.settle()
        yield made


@pytest.fixture
def backup(file: Opened, tmp_path: Path) -> str:
    """The backup; after it follow enough pages for several slices."""
    path = str(tmp_path / "backup.db")
    file.rows("VACUUM INTO ?", path)
    file.append("s", *(f"written since, {number} " + "x" * 3_000 for number in range(200)))
    return path


def run(file: Opened, backup: str, errands: Errands | None = None) -> dict[str, Any]:
    """Run the job to its end on this thread."""
    return restore.run(Job(1, "restore", errands or Errands()), file.store, backup)


def texts(path: str | Path) -> list[str]:
    """The messages that a file holds, by another connection."""
    with foreign(Path(path)) as connection:
        assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        return [row[0] for row in connection.execute("SELECT content FROM messages ORDER BY id")]


def beside(file: Opened) -> list[str]:
    """What restores left in the database's folder."""
    return sorted(name for name in os.listdir(file.path.parent) if "restor" in name)


OLD = ["in the backup", "中文 in the backup"]


def test_the_content_is_the_backups_and_the_store_goes_on(file: Opened, backup: str) -> None:
    told: list[tuple[bytes, int]] = []
    file.store.restored = lambda generation, last_id: told.append((generation, last_id))
    generation, commits = file.store.generation, file.store.commits
    done = run(file, backup)
    assert texts(file.path) == OLD
    assert len(texts(done["kept"])) == 202
    assert beside(file) == [Path(done["kept"]).name]
    assert file.store.generation != generation
    assert file.store.commits > commits
    assert told == [(bytes.fromhex(done["generation"]), 2)]
    file.append("s", "after it")
    file.settle()
    assert file.check().sound
    assert file.found("after") == [3]


def test_what_is_written_while_most_is_kept_is_kept_too(file: Opened, backup: str) -> None:
    written = []

    def write(number: int) -> None:
        written.append(f"message before errand {number}")
        file.results(appending("s", written[-1]))

    errands = Errands(write)
    file.store.restored = lambda _generation, _last_id: setattr(errands, "before", lambda _: None)
    done = run(file, backup, errands)
    assert len(written) > 3
    assert texts(done["kept"])[202:] == written
    assert texts(file.path) == OLD


def test_another_program_that_keeps_writing_while_most_is_kept_loses_nothing(
    file: Opened, backup: str
) -> None:
    written = []
    with foreign(file.path) as other:

        def write(number: int) -> None:
            written.append(f"message before errand {number}")
            foreign_message(other, "s", written[-1])

        errands = Errands(write)
        file.store.restored = lambda *_: setattr(errands, "before", lambda _: None)
        done = run(file, backup, errands)
    assert len(written) > 3
    assert texts(done["kept"])[202:] == written


def test_a_program_that_writes_at_the_moment_of_the_exchange_is_not_run_over(
    file: Opened, backup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last page that is kept, and then its commit: it would be in neither file."""
    begin = restore._Restoring._begin
    times = 0

    def overtaken(self: Any, *rest: Any) -> None:
        nonlocal times
        times += 1
        if times == 1:
            with foreign(file.path) as other:
                foreign_message(other, "s", "at the last moment")
        begin(self, *rest)

    monkeypatch.setattr(restore._Restoring, "_begin", overtaken)
    done = run(file, backup)
    assert times == 2
    assert texts(done["kept"])[202:] == ["at the last moment"]
    assert beside(file) == [Path(done["kept"]).name]
    times = -10_000

    def always(self: Any, *rest: Any) -> None:
        raise restore.Overtaken

    monkeypatch.setattr(restore._Restoring, "_begin", always)
    with pytest.raises(Failure, match="keeps writing"):
        run(file, backup)
    assert texts(file.path) == OLD


def test_a_held_write_lock_is_waited_for_and_then_named(file: Opened, backup: str) -> None:
    with foreign(file.path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Failure, match="write lock"):
            run(file, backup)
        other.execute("ROLLBACK")
    assert len(texts(file.path)) == 202
    assert beside(file) == []


def test_a_reader_with_a_snapshot_keeps_it(file: Opened, backup: str) -> None:
    with foreign(file.path) as reader:
        reader.execute("BEGIN")
        count = "SELECT count(*) FROM messages"
        assert reader.execute(count).fetchall() == [(202,)]
        run(file, backup)
        assert reader.execute(count).fetchall() == [(202,)]
        reader.execute("COMMIT")
        assert reader.execute(count).fetchall() == [(2,)]


def test_a_stop_before_the_last_page_takes_all_back(
    file: Opened, backup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "_PAGES_AT_ONCE", 1)
    job = Job(1, "restore", Errands())
    file.store.access.crash_point = lambda step: job.cancel() if "replacing" in step else None
    generation = file.store.generation
    with pytest.raises(Cancelled):
        restore.run(job, file.store, backup)
    assert file.store.generation == generation
    assert len(texts(file.path)) == 202
    assert beside(file) == []
    file.append("s", "goes on")


class Failing:
    """A backup under way that fails after so many steps."""

    def __init__(self, backup: apsw.Backup, error: Exception, after: int) -> None:
        self._backup = backup
        self._error = error
        self._left = after

    def step(self, pages: int) -> bool:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return self._backup.step(1)

    def close(self, force: bool) -> None:
        self._backup.close(force)


@pytest.mark.parametrize(
    ("error", "raised"), [(apsw.FullError("full"), apsw.FullError), (apsw.IOError("x"), UnsafeFile)]
)
def test_an_error_on_the_way(
    file: Opened,
    backup: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    raised: type[Exception],
) -> None:
    """A full disk changes nothing; of any other error nobody knows what the file holds."""
    finish = restore._Restoring._finish

    def failing(self: Any, replacing: apsw.Backup, kept: str) -> None:
        finish(self, Failing(replacing, error, 2), kept)  # type: ignore[arg-type]

    monkeypatch.setattr(restore._Restoring, "_finish", failing)
    with pytest.raises(raised):
        run(file, backup)
    if raised is apsw.FullError:
        assert len(texts(file.path)) == 202
        assert beside(file) == []
        assert os.stat(f"{file.path}-wal").st_size == 0
        file.append("s", "goes on")


def test_a_damaged_database_is_written_again(file: Opened, backup: str) -> None:
    """What stopped the writing is gone with the file that it was found in."""
    file.store._stop_writing("a page is broken")  # type: ignore[arg-type]
    assert not file.store.health()["writable"]
    run(file, backup)
    assert file.store.health()["writable"]
    file.append("s", "goes on")


def test_channels_are_forgotten(file: Opened, backup: str) -> None:
    file.rows("INSERT INTO sessiond_clients (client, last, floor, last_seen) VALUES (x'01',9,3,1)")
    assert file.store.status(b"\x01", 10) == "not_applied"
    run(file, backup)
    assert file.store.status(b"\x01", 10) == "unknown"


def test_a_database_that_shrinks_under_the_copy_is_kept_as_it_is_in_the_end(
    file: Opened, backup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = Copy.step, 0

    def shrinking(copy: Copy, pages: int) -> bool:
        nonlocal steps
        steps += 1
        if steps == 3:  # the first copies the backup
            with foreign(file.path) as other:
                other.execute("DELETE FROM messages WHERE id > 2")
                other.execute("VACUUM")
        return step(copy, pages)

    def before(_number: int) -> None:
        nonlocal steps
        if steps in (3, 4):
            steps = 100
            file.append("s", "written after all of the database was copied")

    monkeypatch.setattr(restore, "PAGES", 10_000)
    monkeypatch.setattr(Copy, "step", shrinking)
    result = run(file, backup, Errands(before))
    assert texts(result["kept"]) == [*OLD, "written after all of the database was copied"]
    assert file.rows("SELECT content FROM messages ORDER BY id") == [(text,) for text in OLD]


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", ".restoring", ".before-restore.partial"])
def test_the_databases_own_files_are_no_backup(
    file: Opened, backup: str, tmp_path: Path, suffix: str
) -> None:
    own = Path(f"{file.path}{suffix}")
    if not own.exists():
        own.write_bytes(Path(backup).read_bytes())
    (tmp_path / "link").symlink_to(own)
    (tmp_path / "other name").hardlink_to(own)
    for path in (own, tmp_path / "link", tmp_path / "other name"):
        with pytest.raises(Failure, match=r"is (the database itself|a file of the database)"):
            run(file, str(path))
        assert own.exists()  # a copy under way would be removed, and one who names it wants it


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("backup.db", Code.INVALID_PARAMS, "absolute"),
        ("/nowhere/backup.db", Code.INVALID_PARAMS, "cannot be read"),
        ("/dev/null", Code.INVALID_PARAMS, "not a regular file"),
    ],
)
def test_what_is_no_backup(file: Opened, path: str, code: Code, text: str) -> None:
    with pytest.raises(Failure, match=text) as caught:
        run(file, path)
    assert caught.value.code is code


def test_no_room_is_told_first(file: Opened, backup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = os.statvfs("/")
    small = os.statvfs_result((*place[:4], 10, *place[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: small)
    with pytest.raises(Failure, match="a restore needs") as caught:
        run(file, backup)
    assert caught.value.code is Code.DISK_FULL
    assert beside(file) == []
