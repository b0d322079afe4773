"""Many processes at once: nothing lost, nothing doubled, order kept, memory and log bounded."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import SessionDB
from tests.load.mixed import SHARED, TOKENS_PER_COUNT, draft_session, own_session, text_of
from tests.support.corpus import paragraphs
from tests.support.daemon import Daemon, running

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 64
ROUNDS = 6
MIB = 1 << 20
PATIENCE = 10.0


def rows(database: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    # The daemon is a process of its own: this is the only library in ours.
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql, parameters).fetchall()


def texts(database: Path, session: str) -> list[tuple[int, str]]:
    """Ids and contents of a session, in the order of the ids."""
    return rows(
        database, "SELECT id, content FROM messages WHERE session_id = ? ORDER BY id", session
    )


def most_memory(pid: int) -> int:
    """The most that a process ever held in memory, in bytes.

    Not ``ru_maxrss``: a process begins with that of the program that started it.
    """
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def text_before_colon(content: str) -> str:
    return content.partition(":")[0] + ":"


def test_mixed_work_of_many_processes(tmp_path: Path) -> None:
    (folder := tmp_path / "noted").mkdir()
    (place := tmp_path / "daemon").mkdir()
    for daemon in running(place):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.load.mixed", str(daemon.database),
             str(daemon.socket), str(folder), str(PROCESSES), str(ROUNDS)],
            cwd=ROOT, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        memory = most_memory(daemon.pid)
    assert memory < 120 * MIB, f"{memory / MIB:.0f} MiB"
    noted = {
        process: json.loads((folder / f"{process}.json").read_text("utf-8"))
        for process in range(PROCESSES)
    }
    for process, each in noted.items():
        assert_kept(daemon.database, process, each)
    assert_shared(daemon.database, noted)
    assert_sound(daemon.database)


def assert_kept(database: Path, process: int, noted: dict[str, Any]) -> None:
    """What one process was told is what is there, once and in its order."""
    own = texts(database, own_session(process))
    assert [message_id for message_id, _ in own] == noted["own"]
    assert [text_before_colon(content) for _, content in own] == [
        text_of(process, number, "own") for number in range(len(noted["own"]))
    ]
    draft = texts(database, draft_session(process))
    assert [text_before_colon(content) for _, content in draft] == [
        text_of(process, number, "draft") for number in range(ROUNDS)
    ]
    assert noted["draft"] == ROUNDS
    ((tokens,),) = rows(
        database, "SELECT input_tokens FROM sessions WHERE id = ?", own_session(process)
    )
    assert tokens == noted["counted"] * TOKENS_PER_COUNT


def assert_shared(database: Path, noted: dict[int, dict[str, Any]]) -> None:
    """The session of all holds everybody's messages, each process's in its own order."""
    shared = dict(texts(database, SHARED))
    assert sorted(shared) == sorted(id_ for each in noted.values() for id_ in each["shared"])
    for process, each in noted.items():
        assert each["shared"] == sorted(each["shared"])
        assert [text_before_colon(shared[message_id]) for message_id in each["shared"]] == [
            text_of(process, number, "shared") for number in range(len(each["shared"]))
        ]


def assert_sound(database: Path) -> None:
    """Counters agree with rows, the index with the messages, and the file is whole."""
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]
    off = rows(
        database,
        "SELECT id FROM sessions WHERE message_count !="
        " (SELECT count(*) FROM messages WHERE session_id = sessions.id)",
    )
    assert off == []
    with contextlib.closing(sqlite3.connect(database)) as connection:
        # Rank 1 compares the index with the messages, row by row.
        connection.execute(
            "INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)"
        )


# --- a flood -------------------------------------------------------------------------------

FLOOD = (
    "--max-request-bytes", "1MiB", "--connection-max-bytes", "2MiB", "--inbox-max-bytes", "4MiB",
    "--cache-size", "4MiB", "--batch-max-bytes", "1MiB",
)  # fmt: skip
FLOODED = 700
FLOOD_MESSAGE = 64 * 1024


def test_a_flood_does_not_fill_the_memory(tmp_path: Path) -> None:
    """A client that sends faster than the disk takes it waits; the daemon holds little of it."""
    text = "\n".join(paragraphs(3, 500))
    pieces = [text[start : start + FLOOD_MESSAGE] for start in range(0, 16 * 1024, 1024)]
    for daemon in running(tmp_path, *FLOOD):
        with SessionDB(**daemon.arguments) as db:
            before = most_memory(daemon.pid)
            db.create_session("flood", "load")
            futures = [
                db.append_message_nowait("flood", "user", pieces[number % len(pieces)])
                for number in range(FLOODED)
            ]
            ids = [future.result(timeout=60) for future in futures]
            after = most_memory(daemon.pid)
            assert db.message_count("flood") == FLOODED
    assert ids == sorted(set(ids))
    assert after - before < 40 * MIB, f"{(after - before) / MIB:.0f} MiB more than before"


# --- the log -------------------------------------------------------------------------------

LOG_LIMIT = 8 * MIB
READER = """
import random, select, sqlite3, sys, time

path, longest = sys.argv[1:]
connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
going_on = 1
while going_on:
    connection.execute("BEGIN")
    connection.execute("SELECT content FROM messages ORDER BY id DESC LIMIT 200").fetchall()
    if going_on == 1:
        print("reading", flush=True)
    told = select.select([sys.stdin], [], [], random.uniform(0, float(longest)))[0]
    going_on = 0 if told else 2
    connection.execute("COMMIT")
connection.close()
"""
THROUGHOUT = 600.0


@contextlib.contextmanager
def reader(database: Path, longest: float) -> Iterator[Callable[[], None]]:
    """A program that reads, each snapshot up to so many seconds long, until it is let go."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(database), str(longest)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def let_go() -> None:
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0

    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        yield let_go
        if process.returncode is None:
            let_go()


@pytest.fixture
def small_log(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose log has a small limit."""
    for daemon in running(tmp_path, "--wal-soft-limit", str(LOG_LIMIT)):
        write(daemon, 300)
        yield daemon


def log_bytes(daemon: Daemon) -> int:
    return os.stat(f"{daemon.database}-wal").st_size


def write(daemon: Daemon, messages: int) -> None:
    """Store so many paragraphs, in transactions of twenty."""
    with SessionDB(**daemon.arguments) as db:
        db.ensure_session("log", "load")
        stored = [{"role": "user", "content": text} for text in paragraphs(5, messages)]
        for first in range(0, messages, 20):
            db.append_messages("log", stored[first : first + 20])


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_readers_that_come_and_go_do_not_pin_the_log(small_log: Daemon) -> None:
    """There is always one that reads; still the log comes back under its limit every second."""
    longest, above_since = 0.0, time.monotonic()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(reader(small_log.database, 0.02))
        end = time.monotonic() + 5
        while time.monotonic() < end:
            write(small_log, 20)
            if log_bytes(small_log) <= LOG_LIMIT:
                above_since = time.monotonic()
            longest = max(longest, time.monotonic() - above_since)
    assert os.stat(small_log.database).st_size > LOG_LIMIT / 4
    assert longest < 2.5, f"{longest:.1f} s above the limit"


def test_the_log_shrinks_when_a_reader_lets_go(small_log: Daemon) -> None:
    with reader(small_log.database, THROUGHOUT) as let_go:
        for _ in range(40):
            write(small_log, 1000)
            if log_bytes(small_log) > 5 * LOG_LIMIT:
                break
        assert log_bytes(small_log) > 5 * LOG_LIMIT, "nothing was held back"
        let_go()
        assert until(lambda: log_bytes(small_log) <= LOG_LIMIT, 2.0), log_bytes(small_log)
