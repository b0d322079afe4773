"""Old sessions go by themselves, in a daemon that serves others meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sessiond_client import SessionDB
from tests.integration.test_feed import take
from tests.support.daemon import Daemon, running

DAY = 86_400.0


def care(db: SessionDB) -> dict[str, Any]:
    found: dict[str, Any] = db.get_stats()["care"]
    return found


def test_retention_begins_at_a_signal_and_watchers_are_told(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("retention_days = 0\n")
    for daemon in running(tmp_path, "--config", str(settings)):
        with SessionDB(**daemon.arguments) as db, db.watch() as feed:
            make_old(daemon, db)
            settings.write_text('retention_days = 30\nretention_sources = ["cli"]\n')
            daemon.signal(signal.SIGHUP)
            events = take(
                feed, lambda found: sum(each.kind == "session_deleted" for each in found) == 3
            )
            gone = {each.session_id for each in events if each.kind == "session_deleted"}
            assert gone == {"old-0", "old-1", "old-2"}
            assert {each["id"] for each in db.list_sessions_rich()} == {"kept", "open", "young"}
            assert db.search_messages("ancient", source_filter=["cli"]) != []  # of the open one
            retention = care(db)["retention"]
            assert retention["deleted"] == 3
            assert (retention["days"], retention["sources"]) == (30, ["cli"])
            assert abs(retention["last"] - time.time()) < 60
        shown = sessionctl(daemon, "status")
        assert "deleted 3 sessions" in shown
        assert "older than 30 days of cli" in shown
        told = json.loads(sessionctl(daemon, "status", "--json"))
        assert told["care"]["retention"]["deleted"] == 3
        assert set(told["care"]) >= {"optimize", "retention", "merges"}


def make_old(daemon: Daemon, db: SessionDB) -> None:
    """Sessions of several ages; the client's calls have no way to name their start."""
    for number in range(3):
        add(db, f"old-{number}")
    add(db, "kept", "telegram")
    add(db, "open", ended=False)
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=10);"
        "c.execute('UPDATE sessions SET started_at = started_at - ?', (31 * 86400,)); c.commit()"
    )
    subprocess.run([sys.executable, "-c", program, str(daemon.database)], check=True, timeout=30)
    add(db, "young")


def add(db: SessionDB, name: str, source: str = "cli", ended: bool = True) -> None:
    db.create_session(name, source)
    db.append_message(name, "user", "ancient words")
    if ended:
        db.end_session(name, "done")


def sessionctl(daemon: Daemon, *words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "sessiond_client.cli", *words, "--database", str(daemon.database),
         "--socket", str(daemon.socket)],
        capture_output=True, text=True, check=True, timeout=30, env={**os.environ, "NO_COLOR": "1"},
    ).stdout  # fmt: skip


def test_a_setting_that_is_none_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sessiond", "serve", "--database", str(tmp_path / "state.db"),
         "--retention-days", "a month"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == os.EX_CONFIG
    assert "--retention-days must be a number such as 0.5 or 90, 'a month' is not" in done.stderr
