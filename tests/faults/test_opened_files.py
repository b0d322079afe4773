"""Nobody but SQLite opens the database, its log or its shared memory, save the guard, once.

Closing any other descriptor of such a file drops all of the process's locks on it, without a
word; then another program may delete the log while commits go on.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sessiond_client import SessionDB
from tests.support.faults import Faults, FaultyDaemon, path_to_tests
from tests.support.raw import Raw

SHARED_FIRST = 0x4000_0000 + 2
DAEMON_BYTE = 2**62


def everything(db: SessionDB) -> None:
    """A bit of all that a client can ask for."""
    db.create_session("s", "test", model_config={"a": 1})
    for number in range(20):
        db.append_message("s", "user", f"message {number} 漢字", token_count=3)
    db.append_messages("s", [{"role": "user", "content": "x" * 50_000}] * 20)
    db.update_token_counts("s", input_tokens=5)
    db.set_session_title("s", "a title")
    assert len(db.search_messages("message")) > 0
    assert len(db.search_messages("漢字")) > 0
    assert len(db.list_sessions_rich()) == 1
    assert db.export_session("s") is not None
    db.get_messages_as_conversation("s")
    db.get_stats()
    db.get_change_counter()
    db.replace_messages("s", [{"role": "user", "content": "new"}])
    db.end_session("s", "done")
    db.prune_sessions(older_than_days=0)
    db.create_session("t", "test")


def opened_of(database: Path, noted: Path) -> Counter[str]:
    """How often each of a database's files was opened by Python code."""
    names = {str(database) + end for end in ("", "-wal", "-shm")}
    lines = noted.read_text("utf-8", "surrogateescape").splitlines()
    found = [os.path.realpath(line.removeprefix("file:").split("?")[0]) for line in lines]
    return Counter(name.removeprefix(str(database)) for name in found if name in names)


def locks_of(pid: int, path: Path) -> set[tuple[str, str, int]]:
    """Kind, mode and first byte of the locks on a file that are this process's or nobody's."""
    inode = path.stat().st_ino
    found = set()
    for line in Path("/proc/locks").read_text().splitlines():
        match = re.match(r"\d+: (\w+) +\w+ +(\w+) +(-?\d+) [0-9a-f]+:[0-9a-f]+:(\d+) (\d+) ", line)
        if match and int(match[4]) == inode and int(match[3]) in (pid, -1):
            found.add((match[1], match[2], int(match[5])))
    return found


def test_the_daemon_opens_what_the_guard_needs_and_nothing_else(faulty: FaultyDaemon) -> None:
    noted = faulty.folder / "opened"
    faulty.start_with(Faults(audit=str(noted), look_seconds=0.05))
    with SessionDB(**faulty.arguments, reads="daemon") as db:
        everything(db)
        os.kill(faulty.pid, signal.SIGHUP)
        with Raw(faulty.socket) as raw:
            raw.ask("feed.subscribe")
            db.append_message("t", "user", "for the feed")
        locks = locks_of(faulty.pid, faulty.database)
    assert opened_of(faulty.database, noted) == {"": 1, "-shm": 1}
    assert ("OFDLCK", "WRITE", DAEMON_BYTE) in locks
    assert ("OFDLCK", "READ", SHARED_FIRST) in locks
    assert ("POSIX", "READ", SHARED_FIRST) in locks, "SQLite's own lock is lost"
    faulty.stop()
    assert opened_of(faulty.database, noted) == {"": 1, "-shm": 1}


_CLIENT = """
import os, sys
noted = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        os.write(noted, os.fsencode(arguments[0]) + b"\\n")
sys.addaudithook(hook)
from sessiond_client import SessionDB
from tests.faults.test_opened_files import everything
with SessionDB(sys.argv[2], socket=sys.argv[3], autostart=False, reads="direct") as db:
    everything(db)
    print(os.getpid(), flush=True)
    sys.stdin.readline()
"""


def test_a_client_opens_nothing_but_through_sqlite(faulty: FaultyDaemon) -> None:
    noted = faulty.folder / "opened"
    faulty.start()
    client = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, str(noted), str(faulty.database), str(faulty.socket)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **path_to_tests()},
    )  # fmt: skip
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    locks = locks_of(pid, faulty.database)
    client.communicate("\n")
    assert client.returncode == 0
    assert ("POSIX", "READ", SHARED_FIRST) in locks
    assert noted.exists()
    assert opened_of(faulty.database, noted) == {}


def test_system_calls(faulty: FaultyDaemon) -> None:
    """The same as the kernel sees it: no descriptor of the files is closed while it serves."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    faulty.start()
    traced = faulty.folder / "trace"
    tracer = subprocess.Popen(
        [strace, "-f", "-y", "-e", "trace=open,openat,creat,close", "-o", str(traced),
         "-p", str(faulty.pid)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        if "attached" not in first:
            pytest.skip(f"strace may not attach: {first.strip()}")
        with SessionDB(**faulty.arguments, reads="daemon") as db:
            everything(db)
            locks = locks_of(faulty.pid, faulty.database)
    finally:
        tracer.terminate()
        tracer.communicate()
    database = re.escape(str(faulty.database))
    lines = traced.read_text().splitlines()
    opened = [line for line in lines if re.search(rf"open(at)?\(.*<{database}>", line)]
    assert opened, "the read pool's connections should have been seen"
    closed = [line for line in lines if re.search(rf"close\(\d+<{database}(-wal|-shm)?>\)", line)]
    assert closed == []
    assert ("POSIX", "READ", SHARED_FIRST) in locks
