"""``database.restore`` in a daemon with clients: one transaction, and everybody learns of it."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import Event, InvalidParams, OutcomeUnknown, SessionDB
from tests.integration.test_feed import take
from tests.support import old_files
from tests.support.daemon import Daemon
from tests.support.raw import Raw


@pytest.fixture
def db(own_daemon: Daemon) -> Iterator[SessionDB]:
    """A client of a daemon for this test alone."""
    with SessionDB(**own_daemon.arguments) as db:
        db.create_session("s", "test")
        db.append_message("s", "user", "in the backup")
        yield db


@pytest.fixture
def backup(db: SessionDB, tmp_path: Path) -> Path:
    """A backup with one message; another one is written since."""
    path = tmp_path / "backup.db"
    db.backup(path)
    db.append_message("s", "user", "written since")
    return path


def texts(db: SessionDB) -> list[str]:
    """The session's messages."""
    return [each["content"] for each in db.get_messages("s")]


def stored(path: Path | str) -> list[str]:
    """The messages in a file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        return [text for (text,) in connection.execute("SELECT content FROM messages ORDER BY id")]


def beside(daemon: Daemon) -> set[str]:
    """The files that restores leave beside the database."""
    return {name for name in os.listdir(daemon.folder) if "restor" in name}


def test_the_backup_takes_the_place_and_what_was_there_is_kept(
    own_daemon: Daemon, db: SessionDB, backup: Path
) -> None:
    counter = db.get_change_counter()
    generation = db.get_stats()["generation"]
    commits = db.get_stats()["commits"]
    steps: list[dict[str, Any]] = []
    done = db.restore(backup, progress=steps.append)
    assert texts(db) == ["in the backup"]
    assert stored(done["kept"]) == ["in the backup", "written since"]
    assert beside(own_daemon) == {Path(done["kept"]).name}
    assert (done["sessions"], done["messages"], done["path"]) == (1, 1, str(backup))
    stats = db.get_stats()
    assert stats["generation"] == done["generation"] != generation
    assert stats["commits"] > commits
    assert db.get_change_counter() != counter
    assert steps[-1]["state"] == "done"
    assert db.append_message("s", "user", "after it") > 0
    own_daemon.restart()
    assert texts(db) == ["in the backup", "after it"]
    assert db.get_stats()["generation"] == done["generation"]


def test_search_and_its_index_are_those_of_the_backup(db: SessionDB, backup: Path) -> None:
    db.append_message("s", "user", "天気がいい and a unicorn")
    db.restore(backup)
    assert db.search_messages("unicorn") == []
    assert db.search_messages("天気") == []
    assert len(db.search_messages("backup")) == 1
    db.append_message("s", "user", "天気 and another unicorn")
    assert len(db.search_messages("unicorn")) == len(db.search_messages("天気")) == 1
    assert db.check(now=True)["sound"]


def test_readers_of_the_file_see_it_at_once(
    own_daemon: Daemon, db: SessionDB, backup: Path
) -> None:
    with SessionDB(**own_daemon.arguments, reads="direct") as reader:
        assert texts(reader) == ["in the backup", "written since"]
        db.restore(backup)
        assert texts(reader) == ["in the backup"]


def test_watchers_are_told_that_everything_is_different(
    own_daemon: Daemon, db: SessionDB, backup: Path
) -> None:
    for number in range(20):
        db.append_message("s", "user", f"gone {number}")
    with SessionDB(**own_daemon.arguments) as other, other.watch() as feed:
        db.restore(backup)

        def has_reset(found: list[Event]) -> bool:
            return any(each.kind == "feed_reset" for each in found)

        take(feed, has_reset)
        message_id = db.append_message("s", "user", "after it")
        found = take(feed, lambda found: any(each.kind == "message" for each in found))
        messages = [each.message for each in found if each.kind == "message"]
        assert [each["id"] for each in messages if each is not None] == [message_id]


def test_nothing_is_lost_or_doubled_for_those_who_write_meanwhile(
    own_daemon: Daemon, db: SessionDB, backup: Path
) -> None:
    """Whatever is acknowledged is in the history of its time; the rest is unknown, and said so."""
    stop = threading.Event()
    outcomes: dict[str, str] = {}

    def write(name: str) -> None:
        with SessionDB(**own_daemon.arguments) as writer:
            for number in range(100_000):
                if stop.is_set():
                    return
                texts = [f"{name} {number} {part}" for part in range(5)]
                waiting = [writer.append_message_nowait("s", "user", text) for text in texts]
                for text, future in zip(texts, waiting, strict=True):
                    try:
                        future.result()
                        outcomes[text] = "applied"
                    except OutcomeUnknown:
                        outcomes[text] = "unknown"

    writers = [threading.Thread(target=write, args=(f"writer {n}",)) for n in range(3)]
    for thread in writers:
        thread.start()
    wait_until(lambda: len(outcomes) > 50)
    done = db.restore(backup)
    at_the_end = len(outcomes)
    wait_until(lambda: len(outcomes) > at_the_end + 100)
    stop.set()
    for thread in writers:
        thread.join()
    before, after = stored(done["kept"]), stored(own_daemon.database)
    assert after[0] == "in the backup"
    assert len(set(before) | set(after)) == len(before) + len(after) - 1  # that one is in both
    everywhere = {*before, *after}
    assert {text for text, fate in outcomes.items() if fate == "applied"} <= everywhere
    assert everywhere - {"in the backup", "written since"} <= outcomes.keys()


def wait_until(condition: Any) -> None:
    """Until something is true; progress is made on other threads."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_an_older_version_is_brought_up_to_date_first(
    own_daemon: Daemon, db: SessionDB, tmp_path: Path
) -> None:
    script = "import sys; from tests.support import old_files; old_files.make(sys.argv[1], 3)"
    make(tmp_path / "old.db", script)
    done = db.restore(tmp_path / "old.db")
    assert (done["from_version"], done["version"]) == (3, 6)
    assert len(db.get_messages("root")) == len(
        [each for each in old_files.MESSAGES if each[0] == "root"]
    )
    db.append_message("root", "user", "goes on")


def test_another_page_size_is_taken_over_as_ours(
    db: SessionDB, backup: Path, tmp_path: Path
) -> None:
    script = (
        "import apsw, sys; c = apsw.Connection(sys.argv[1]);"
        "c.execute('PRAGMA page_size=16384').fetchall(); c.execute('VACUUM')"
    )
    make(backup, script)
    db.restore(backup)
    assert texts(db) == ["in the backup"]
    assert db.get_stats()["pages"]["page_size"] == 4096


def make(path: Path, script: str) -> None:
    """Run a script that makes a file with apsw, which must not be in this process."""
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"not a database" * 400, "is not a SQLite database"),
        (b"", "holds no sessions"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_backup_changes_nothing(
    own_daemon: Daemon, db: SessionDB, tmp_path: Path, content: bytes | None, text: str
) -> None:
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)
    generation = db.get_stats()["generation"]
    with pytest.raises(InvalidParams, match=text):
        db.restore(path)
    assert texts(db) == ["in the backup"]
    assert db.get_stats()["generation"] == generation
    assert beside(own_daemon) == set()


def test_the_database_is_no_backup_of_itself(own_daemon: Daemon, db: SessionDB) -> None:
    with pytest.raises(InvalidParams, match="is the database itself"):
        db.restore(own_daemon.database)
    with Raw(own_daemon.socket) as raw:
        job_id = raw.ask("database.restore", path="state.db")
        state = raw.ask("job.status", job_id=job_id, wait=10.0, version=1)
        assert state["error"][0] == "invalid_params"
