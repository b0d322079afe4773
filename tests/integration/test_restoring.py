"""``sessiond restore`` as an operator runs it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sessiond_client import OutcomeUnknown, SessionDB
from tests.support.daemon import Daemon
from tests.support.terminal import at_terminal

EX_USAGE, EX_NOINPUT, EX_TEMPFAIL, EX_CONFIG = 64, 66, 75, 78


def restore(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``sessiond restore`` where nobody can answer."""
    return subprocess.run(
        [sys.executable, "-m", "sessiond", "restore", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def backup(own_daemon: Daemon, tmp_path: Path) -> Path:
    """A copy of the daemon's database from before a message, made while nobody has it open."""
    with SessionDB(**own_daemon.arguments) as db:
        db.create_session("s", "test")
        db.append_message("s", "user", "in the backup")
    own_daemon.stop()
    copy = tmp_path / "backup.db"
    shutil.copy(own_daemon.database, copy)
    own_daemon.start()
    with SessionDB(**own_daemon.arguments) as db:
        db.append_message("s", "user", "written since")
    return copy


def texts(db: SessionDB) -> list[str]:
    """The session's messages."""
    return [each["content"] for each in db.get_messages("s")]


def test_restored_and_served_again(own_daemon: Daemon, backup: Path) -> None:
    own_daemon.stop()
    done = restore(backup, "--yes", "--database", own_daemon.database)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == f"restored {own_daemon.database} from {backup}: 1 session, 1 message"
    kept = Path(second.removeprefix("the database before is kept in "))
    own_daemon.start()
    with SessionDB(**own_daemon.arguments) as db:
        assert texts(db) == ["in the backup"]
    own_daemon.stop()
    assert restore(kept, "--yes", "--database", own_daemon.database).returncode == 0
    own_daemon.start()
    with SessionDB(**own_daemon.arguments) as db:
        assert texts(db) == ["in the backup", "written since"]


def test_a_client_that_was_there_before_takes_nothing_for_applied(
    own_daemon: Daemon, backup: Path
) -> None:
    with SessionDB(**own_daemon.arguments) as db:
        db.append_message("s", "user", "lost by the restore")
        counter = db.get_change_counter()
        own_daemon.signal(signal.SIGSTOP)
        waiting = db.append_message_nowait("s", "user", "on its way")
        own_daemon.kill()
        assert restore(backup, "--yes", "--database", own_daemon.database).returncode == 0
        own_daemon.start()
        # Unknown if its bytes had left before the kill; else it was first sent after the restore.
        applied = []
        with contextlib.suppress(OutcomeUnknown):
            waiting.result()
            applied = ["on its way"]
        assert texts(db) == ["in the backup", *applied]
        assert db.get_change_counter() != counter
        db.append_message("s", "user", "after it")
        assert texts(db) == ["in the backup", *applied, "after it"]


def test_a_reader_of_the_file_sees_the_restored_one(own_daemon: Daemon, backup: Path) -> None:
    with SessionDB(**own_daemon.arguments, reads="direct") as db:
        assert texts(db) == ["in the backup", "written since"]
        own_daemon.stop()
        assert restore(backup, "--yes", "--database", own_daemon.database).returncode == 0
        own_daemon.start()
        assert texts(db) == ["in the backup"]


def test_a_served_database_is_left_to_its_daemon(own_daemon: Daemon, backup: Path) -> None:
    done = restore(backup, "--yes", "--database", own_daemon.database)
    assert done.returncode == EX_TEMPFAIL
    assert f"pid {own_daemon.pid}" in done.stderr
    assert "'sessionctl restore' restores through it" in done.stderr
    with SessionDB(**own_daemon.arguments) as db:
        assert texts(db) == ["in the backup", "written since"]


def test_it_asks_first(own_daemon: Daemon, backup: Path) -> None:
    own_daemon.stop()
    done = restore(backup, "--database", own_daemon.database)
    assert done.returncode == EX_USAGE
    assert "--yes does it unasked" in done.stderr
    words = [sys.executable, "-m", "sessiond", "restore", str(backup)]
    environment = {**os.environ, "SESSIOND_DATABASE": str(own_daemon.database)}
    before = own_daemon.database.read_bytes()
    declined = at_terminal(words, answer="n\n", environment=environment)
    assert "nothing was changed" in declined.text
    assert declined.status == 1
    assert own_daemon.database.read_bytes() == before
    done_at_terminal = at_terminal(words, answer="y\n", environment=environment)
    assert done_at_terminal.status == 0
    assert "the database before is kept in" in done_at_terminal.text
    own_daemon.start()


def test_what_is_not_there_is_said_before_anything_is_asked(own_daemon: Daemon) -> None:
    own_daemon.stop()
    done = restore("missing.db", "--database", own_daemon.database)
    assert done.stderr == "sessiond: missing.db does not exist\n"
    assert done.returncode == os.EX_NOINPUT


def test_json(own_daemon: Daemon, backup: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    done = restore(backup, "--json", SESSIOND_DATABASE=str(new))
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert said["database"] == str(new)
    assert (said["kept"], said["sessions"], said["messages"]) == (None, 1, 1)


def test_what_cannot_be_done_is_one_line(tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for status, text, arguments in (
        (EX_NOINPUT, "missing does not exist", [tmp_path / "missing"]),
        (EX_CONFIG, "'maybe' is not", [tmp_path / "missing"]),
        (EX_USAGE, "missing argument 'BACKUP'", []),
    ):
        lies = "maybe" if status == EX_CONFIG else ""
        done = restore(*arguments, "--database", new, SESSIOND_ALLOW_NETWORK_FS=lies)
        assert done.returncode == status
        assert text in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not new.exists()
