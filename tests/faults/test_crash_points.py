"""The daemon is killed at every named step; its clients notice nothing but the time it takes."""

import os
import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest

import sessiond
from sessiond_client import Integrity, SessionDB, ShuttingDown
from tests.support import old_files
from tests.support.faults import Faults, FaultyDaemon

MESSAGES = 120
TRIP = "this one fails after it was stored"

WRITING = ("before receipts", "before commit", "after commit", "between runs")
RESTORING = ("restore: replacing", "restore: replaced")
STARTING = ("before start commit", "after start commit")


def stored(path: Path) -> list[tuple[str, str]]:
    """Every message as session and content, in the order of ids."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT session_id, content FROM messages ORDER BY id").fetchall()


@pytest.mark.parametrize("step", WRITING)
def test_killed_while_writing(faulty: FaultyDaemon, step: str) -> None:
    with SessionDB(**faulty.arguments) as db:
        faulty.start_with(Faults(crash=step, times=4, trip=TRIP))
        reviver = faulty.revive(Faults(trip=TRIP))
        db.create_session("s", "test")
        written: list[Future[int]] = []
        tripped: list[Future[int]] = []
        for number in range(MESSAGES):
            written.append(db.append_message_nowait("s", "user", f"message {number}"))
            if number % 10 == 0:
                tripped.append(db.append_message_nowait("s", "user", TRIP))
                written[-1].result()  # so that there are several batches
        ids = [future.result() for future in written]
        for future in tripped:
            with pytest.raises(Integrity):
                future.result()
        reviver.join()
        assert [text for _, text in stored(faulty.database)] == [
            f"message {number}" for number in range(MESSAGES)
        ]
        assert ids == sorted(set(ids))
        assert [each["id"] for each in db.get_messages("s")] == ids
        session = db.get_session("s")
        assert session is not None
        assert session["message_count"] == MESSAGES
    assert faulty.statuses == [-9]


@pytest.mark.parametrize("step", STARTING)
def test_killed_while_starting(faulty: FaultyDaemon, step: str) -> None:
    with SessionDB(**faulty.arguments) as db:
        faulty.start()
        db.create_session("s", "test")
        faulty.kill()
        waiting = [db.append_message_nowait("s", "user", f"message {n}") for n in range(5)]
        faulty.launch_with(Faults(crash=step))
        assert faulty.await_end() == -9
        faulty.start_with(Faults())
        assert [future.result() for future in waiting] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("step", ["backup: copied", "v4: titles", "complete: messages_fts"])
def test_killed_while_migrating(faulty: FaultyDaemon, step: str) -> None:
    """A client that came early is served by whichever daemon comes through."""
    old_files.make(faulty.database, 1, fts=False)
    with SessionDB(**faulty.arguments) as db:
        waiting = db.append_message_nowait("new", "user", "too early")
        faulty.launch_with(Faults(crash=step))
        assert faulty.await_end() == -9
        faulty.start_with(Faults())
        with pytest.raises(Integrity):
            waiting.result()
        db.create_session("new", "test")
        assert db.append_message("new", "user", "hello") > 0


@pytest.mark.parametrize("step", RESTORING)
def test_killed_while_restoring(faulty: FaultyDaemon, step: str) -> None:
    """The transaction counts with its last page; before that nothing has happened."""
    backup = faulty.folder / "backup.db"
    with SessionDB(**faulty.arguments) as db:
        faulty.start_with(Faults(crash=step))
        db.create_session("s", "test")
        db.append_message("s", "user", "in the backup")
        db.backup(backup)
        db.append_message("s", "user", "written since")
        generation = db.get_stats()["generation"]
        reviver = faulty.revive()
        with pytest.raises(ShuttingDown, match="look whether it was done"):
            db.restore(backup)
        reviver.join()
        restored = step == "restore: replaced"
        texts = ["in the backup"] if restored else ["in the backup", "written since"]
        assert [each["content"] for each in db.get_messages("s")] == texts
        assert (db.get_stats()["generation"] != generation) == restored
        assert db.restore(backup)["messages"] == 1
        left = {name for name in os.listdir(faulty.folder) if "restor" in name}
        assert not {name for name in left if ".before-restore-2" not in name}
        assert len(left) == 2  # the first one had kept it already


def named_steps() -> Iterator[str]:
    """Every step that the store and its keeper name."""
    folder = Path(sessiond.__file__).parent / "sqlite"
    for file in folder.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        yield from re.findall(r'crash_point\("([^"]+)"\)', text)


def test_every_named_step_is_tested() -> None:
    named = {step for step in named_steps() if not step.startswith("job: ")}  # tried with the jobs
    assert named <= {*WRITING, *STARTING, *RESTORING}
