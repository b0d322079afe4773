"""Long work that is cut short: by a crash, a stop, a full disk, another program's commits."""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessiond_client import DiskFull, SessionDB, ShuttingDown
from tests.faults.test_full_disk import fill as fill_disk
from tests.faults.test_full_disk import small
from tests.support.faults import Faults, FaultyDaemon
from tests.support.foreign import Foreign, run

__all__ = ["small"]

SLOW = Faults(slow_copies=True)
INTEGRITY = "c = connect(); print(*c.execute('PRAGMA integrity_check').fetchone()); c.close()"


@pytest.fixture
def filled(faulty: FaultyDaemon) -> Iterator[FaultyDaemon]:
    """A daemon that does not run, with some mebibytes in its database."""
    faulty.start()
    with SessionDB(**faulty.arguments) as db:
        db.create_session("s", "test")
        store(db, 4 << 20)
        faulty.stop()
        yield faulty


def store(db: SessionDB, size: int) -> None:
    """Messages of so many bytes together, whose text is no burden to the index."""
    db.append_messages(
        "s", [{"role": "user", "content": f"m{n} {'x' * 100_000}"} for n in range(size // 100_000)]
    )


def beside(daemon: FaultyDaemon) -> set[str]:
    """What a job has made."""
    known = ("log", "sock", "ready", "state.db")
    return {
        name for name in os.listdir(daemon.folder)
        if name not in known and not name.startswith(("state.db-", "state.db.sessiond"))
    }  # fmt: skip


@pytest.mark.parametrize(("step", "left"), [("job: slice", "copy.partial"),
                                            ("job: verified", "copy.partial"),
                                            ("job: renamed", "copy")])  # fmt: skip
def test_a_crash_leaves_a_whole_copy_or_none(filled: FaultyDaemon, step: str, left: str) -> None:
    copy = filled.folder / "copy"
    filled.start_with(Faults(crash=step, slow_copies=True, times=9 if "slice" in step else 1))
    reviver = filled.revive()
    with SessionDB(**filled.arguments) as db:
        with pytest.raises(ShuttingDown, match="was under way"):
            db.backup(copy)
        reviver.join()
        assert filled.statuses == [-9]
        assert beside(filled) == {left}
        if left == "copy":
            assert run(INTEGRITY, copy) == "ok"
            copy.unlink()
        assert db.backup(copy)["messages"] == db.message_count()
        assert beside(filled) == {"copy"}
    assert run(INTEGRITY, copy) == "ok"


def test_a_crash_during_a_check_leaves_a_copy_that_the_next_check_removes(
    filled: FaultyDaemon,
) -> None:
    filled.start_with(Faults(crash="job: slice", slow_copies=True, times=9))
    reviver = filled.revive()
    with SessionDB(**filled.arguments) as db:
        with pytest.raises(ShuttingDown):
            db.check()
        reviver.join()
        assert beside(filled) == {"state.db.check.partial"}
        assert db.check()["sound"] is True
        assert beside(filled) == set()


@pytest.mark.parametrize("call", ["backup", "check"])
def test_a_stop_ends_a_copy_and_removes_it(filled: FaultyDaemon, call: str) -> None:
    filled.start_with(Faults(stop_at="job: slice", slow_copies=True, times=9))
    ends: list[BaseException] = []

    def ask() -> None:
        with SessionDB(**filled.arguments) as db:
            try:
                db.backup(filled.folder / "copy") if call == "backup" else db.check()
            except ShuttingDown as error:
                ends.append(error)

    caller = threading.Thread(target=ask)
    caller.start()
    assert filled.await_end() == 0
    assert beside(filled) == set()
    filled.start()  # whose answer was cut off is told by this one
    caller.join()
    assert len(ends) == 1


def test_a_copy_that_another_program_keeps_disturbing_is_made_of_a_snapshot(
    filled: FaultyDaemon,
) -> None:
    """It commits again and again until the copy is there."""
    program = f"""
import os
c = connect()
number = 0
print("paused", flush=True)
while not os.path.exists({str(filled.folder / "copy")!r}):
    c.execute("UPDATE sessions SET user_id = ? WHERE id = 's'", (number,))
    number += 1
c.close()
"""
    filled.start_with(SLOW)
    with SessionDB(**filled.arguments) as db:
        with Foreign(program, filled.database) as other:
            other.wait_for_pause()
            states: list[str] = []
            result = db.backup(
                filled.folder / "copy", progress=lambda state: states.append(state["step"])
            )
            other.finish()
        assert result["restarts"] == 4
        assert any("snapshot" in each for each in states)
        assert result["messages"] == db.message_count()
    assert run(INTEGRITY, filled.folder / "copy") == "ok"


def test_no_room_is_said_before_anything_is_written(small: FaultyDaemon) -> None:
    folder = small.folder
    with SessionDB(**small.arguments, reads="daemon") as db:
        db.create_session("s", "test")
        store(db, 800_000)
        db.checkpoint()
        filler = fill_disk(folder, leave=500_000)
        before = small.database.read_bytes()
        with pytest.raises(DiskFull, match=rf"copy needs \d+ bytes in {folder}, \d+ are free"):
            db.backup(folder / "copy")
        with pytest.raises(DiskFull, match=r"a check of a copy needs \d+ bytes"):
            db.check()
        with pytest.raises(DiskFull, match=r"a vacuum needs \d+ bytes"):
            db.vacuum()
        assert beside(small) == {"filler"}
        assert small.database.read_bytes() == before
        assert db.check(now=True)["sound"] is True
        filler.unlink()
        assert db.vacuum()["bytes_after"] > 0
        assert db.backup(folder / "copy")["messages"] == 8


def test_room_that_runs_out_on_the_way_costs_nobody_anything(small: FaultyDaemon) -> None:
    folder = small.folder
    small.stop()
    small.start_with(Faults(blind=True))
    with SessionDB(**small.arguments, reads="daemon") as db:
        db.create_session("s", "test")
        store(db, 800_000)
        db.checkpoint()
        filler = fill_disk(folder, leave=500_000)
        calls: list[Callable[[], Any]] = [
            lambda: db.backup(folder / "copy"),
            db.check,
            db.vacuum,
        ]
        for call in calls:
            with pytest.raises(DiskFull):
                call()
            assert beside(small) == {"filler"}
            assert db.append_message("s", "user", "there is room for this") > 0
        assert db.message_count() == 11
        filler.unlink()
        assert db.check()["sound"] is True
        assert db.vacuum()["bytes_after"] > 0
    small.stop()
    assert run(INTEGRITY, small.database) == "ok"
