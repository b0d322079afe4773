"""A daemon that is still migrating: early clients are told how long, and the library waits.

Another program holds the old file's write lock, as one does that has not ended yet; the
migration goes on when it lets go.
"""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket  # noqa: N812 (the name of the class it is)
from typing import Any

import msgpack
import pytest

from sessiond_client import Migrating, SessionDB
from sessiond_protocol import paths, wire
from sessiond_protocol.errors import Code
from sessiond_protocol.state_file import State
from tests.support.foreign import HOLD_LOCK, Foreign, run
from tests.support.home import Home, await_end, home

__all__ = ["home"]

MAKE = """
db = connect()
db.executescript('''
PRAGMA journal_mode=WAL;
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (1);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, user_id TEXT, model TEXT, model_config TEXT,
    system_prompt TEXT, parent_session_id TEXT REFERENCES sessions(id), started_at REAL NOT NULL,
    ended_at REAL, end_reason TEXT, message_count INTEGER DEFAULT 0,
    tool_call_count INTEGER DEFAULT 0, input_tokens INTEGER DEFAULT 0,
    output_tokens INTEGER DEFAULT 0);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL REFERENCES sessions(id),
    role TEXT NOT NULL, content TEXT, tool_call_id TEXT, tool_calls TEXT, tool_name TEXT,
    timestamp REAL NOT NULL, token_count INTEGER);
INSERT INTO sessions (id, source, started_at) VALUES ('old', 'cli', 1.0);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO messages (session_id, role, content, timestamp)
SELECT 'old', 'user', 'question ' || i || ' about the garden', i FROM n;
''')
db.close()
"""


@pytest.fixture
def held(home: Home) -> Iterator[Foreign]:
    """A version 1 file at the usual place, whose write lock another program holds."""
    home.database.parent.mkdir()
    run(MAKE, home.database)
    with Foreign(HOLD_LOCK, home.database) as holder:
        holder.wait_for_pause()
        yield holder


def asked(home: Home, method: str, arguments: dict[str, Any]) -> wire.ResponseFrame:
    """The answer to one request of a generic client that says no hello."""
    reader = wire.FrameReader(2**20)
    with Socket(AF_UNIX) as connected:
        connected.settimeout(10)
        connected.connect(paths.usual_socket(str(home.database), os.geteuid()))
        connected.sendall(wire.request(1, method, msgpack.packb(arguments), None))
        while (frame := reader.next_frame()) is None:
            reader.feed(connected.recv(65_536))
    answer = wire.decode_frame(frame)
    assert isinstance(answer, wire.ResponseFrame)
    return answer


def start(home: Home) -> None:
    """Have a program with little time want the daemon; the daemon goes on without it."""
    with SessionDB(timeout=1.0) as db, pytest.raises(Migrating) as caught:
        db.message_count()
    assert caught.value.retryable
    assert caught.value.data["seconds"] >= 0
    assert home.state.state is State.MIGRATING


def test_a_program_without_time_is_told_and_the_next_one_waits(home: Home, held: Foreign) -> None:
    start(home)
    pids = home.daemons()
    let_go = threading.Timer(0.3, held.go_on)
    let_go.start()
    with SessionDB() as db:
        assert db.message_count("old") == 20_000
        assert db.get_stats()["pid"] in pids
    let_go.join()
    assert home.daemons() == pids, "the daemon outlived the program that gave up on it"
    assert home.state.state is State.SERVING


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("server.hello", {"protocol": wire.PROTOCOL_VERSION}),
        ("session.get", {"session_id": "old"}),
        ("session.ensure", {"session_id": "new", "started_at": 1.0}),
    ],
)
def test_any_client_is_told_how_long(
    home: Home, held: Foreign, method: str, arguments: dict[str, Any]
) -> None:
    start(home)
    error = asked(home, method, arguments).error
    assert error is not None
    code, message, data = error
    assert code == Code.MIGRATING
    assert data is not None
    assert message == f"the database is being migrated, about {data['seconds']:.0f} s are left"
    assert data["applied"] is False


def test_how_it_fares_is_answered_all_the_same(home: Home, held: Foreign) -> None:
    start(home)
    answer = asked(home, "server.stats", {})
    assert answer.error is None
    assert msgpack.unpackb(answer.result)["state"] == "migrating"


def test_the_wait_is_told_once_and_the_backup_made_once(home: Home, held: Foreign) -> None:
    start(home)  # after a second of waiting
    state = Path(paths.state_file(str(home.database)))
    written = state.stat().st_mtime_ns
    while "which is waited for" not in home.log:
        assert asked(home, "server.stats", {}).error is None
    assert state.stat().st_mtime_ns == written
    assert home.state.socket == paths.usual_socket(str(home.database), os.geteuid())
    held.go_on()
    with SessionDB() as db:
        assert db.message_count("old") == 20_000
    assert f"is held by pid {held.pid}" in home.log
    for once in ("which is waited for", "backup of version 1 is in", "about "):
        assert home.log.count(once) <= 1, home.log
    assert "exists and is kept" not in home.log


def test_it_can_be_stopped(home: Home, held: Foreign) -> None:
    start(home)
    (pid,) = home.daemons()
    os.kill(pid, signal.SIGTERM)
    await_end(pid)
    held.finish()
    with SessionDB() as db:
        assert db.message_count("old") == 20_000
