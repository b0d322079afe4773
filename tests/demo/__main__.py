"""The main job on real input: many processes write real dialogues through one daemon.

Run it with ``make demo``. It starts a daemon on a scratch database, lets eight processes write
every dialogue of a multilingual corpus at once, checks that every message is there exactly once
and in order, and shows what was stored.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sessiond_client import SessionDB
from tests.demo.script import Message, conversations

WORKERS = 8
QUERIES = (
    "artificial intelligence",
    "intelligenz",
    "什么",
    "こんにちは",
    "안녕",
    "สวัสดี",
    '"good morning"',
)
PATIENCE = 30.0

console = Console()


def start_daemon(database: Path, socket: Path) -> subprocess.Popen[bytes]:
    """A daemon on the scratch database; its log goes beside it."""
    log = database.with_suffix(".log").open("wb")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", "sessiond", "serve",
             "--database", str(database), "--socket", str(socket)],
            stdout=log,
            stderr=log,
        )  # fmt: skip


def write_everything(database: Path, socket: Path, total: int) -> float:
    """Let the workers write, with progress; the seconds it took."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.demo.worker",
             str(database), str(socket), str(share), str(WORKERS)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in range(WORKERS)
    ]  # fmt: skip
    started = time.monotonic()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{WORKERS} processes write", total=total)

        def follow(worker: subprocess.Popen[str]) -> None:
            assert worker.stdout is not None
            for line in worker.stdout:
                progress.advance(task, int(line))

        followers = [threading.Thread(target=follow, args=(worker,)) for worker in workers]
        for follower in followers:
            follower.start()
        for follower in followers:
            follower.join()
    failed = [worker.args for worker in workers if worker.wait() != 0]
    for worker in workers:
        if worker.stdout is not None:
            worker.stdout.close()
    if failed:
        sys.exit(f"{len(failed)} of {WORKERS} writers failed")
    return time.monotonic() - started


def check_messages(db: SessionDB) -> int:
    """Every message is there, once and in order, with what was said of it; how many."""
    checked = 0
    for conversation in conversations():
        stored = db.get_messages(conversation.session_id)
        found = [_as_written(message) for message in stored]
        wanted = [_as_written(message) for message in conversation.messages]
        if found != wanted:
            sys.exit(f"session {conversation.session_id}: stored {found}, written {wanted}")
        session = db.get_session(conversation.session_id)
        if session is None or session["message_count"] != len(wanted) or not session["ended_at"]:
            sys.exit(f"session {conversation.session_id} is not as it was written: {session}")
        checked += len(wanted)
    if db.message_count() != checked:
        sys.exit(f"{db.message_count()} messages are stored, {checked} were written")
    return checked


def _as_written(message: Message) -> list[Any]:
    names = ("role", "content", "tool_name", "tool_calls", "tool_call_id", "reasoning")
    return [message.get(name) for name in names]


def show_sessions(db: SessionDB) -> None:
    """The newest sessions as a table."""
    table = Table(title=f"{db.session_count()} sessions, the newest of them")
    table.add_column("title", overflow="ellipsis", no_wrap=True, max_width=18)
    for heading in ("source", "messages", "tools", "tokens"):
        table.add_column(heading, no_wrap=True, min_width=len(heading))
    table.add_column("preview", overflow="ellipsis", no_wrap=True, max_width=16)
    for session in db.list_sessions_rich(limit=8):
        table.add_row(
            session["title"],
            session["source"],
            str(session["message_count"]),
            str(session["tool_call_count"]),
            str(session["input_tokens"] + session["output_tokens"]),
            session["preview"],
        )
    console.print(table)


def show_search(db: SessionDB) -> None:
    """Searches in several scripts, with their first hits."""
    table = Table(title="search")
    table.add_column("query", no_wrap=True)
    table.add_column("session", no_wrap=True)
    table.add_column("snippet")
    for query in QUERIES:
        hits = db.search_messages(query, limit=2)
        if not hits:
            sys.exit(f"nothing was found for {query!r}")
        for place, hit in enumerate(hits):
            snippet = " ".join(hit["snippet"].split())
            table.add_row(query if place == 0 else "", hit["session_id"], snippet[:200])
    console.print(table)


def show_statistics(db: SessionDB, messages: int, seconds: float) -> None:
    """What the daemon counted."""
    stats = db.get_stats()
    batch = stats["writer"]["batch_size"]
    commit = stats["writer"]["commit_seconds"]
    table = Table(title="the daemon's statistics", show_header=False)
    rows = (
        ("messages a second, one request at a time", f"{messages / seconds:,.0f}"),
        ("requests", f"{stats['total_writes']:,}"),
        ("transactions", f"{stats['batch_count']:,}"),
        ("requests in a transaction", f"mean {batch['sum'] / batch['count']:.1f},"
         f" at most {batch['max']:.0f}"),
        ("commit, synced to disk", f"mean {1000 * commit['sum'] / commit['count']:.2f} ms,"
         f" 99 % under {1000 * commit['p99']:.2f} ms"),
    )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    console.print(table)


def check_file(database: Path) -> None:
    """SQLite's own checks of the database and of its search index, after the daemon left."""
    with sqlite3.connect(database) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.execute(
            "INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)"
        )
        connection.rollback()
    connection.close()
    console.print(f"integrity check of the database: [bold]{verdict}[/], of the search index: ok")
    if verdict != "ok":
        sys.exit(1)


def main() -> None:
    """The whole job."""
    folder = Path(tempfile.mkdtemp(prefix="sessiond-demo-"))
    database, socket = folder / "state.db", folder / "sock"
    total = sum(len(conversation.messages) for conversation in conversations())
    daemon = start_daemon(database, socket)
    try:
        with SessionDB(database, socket=socket, autostart=False, timeout=PATIENCE) as db:
            db.session_count()
            console.print(f"daemon {daemon.pid} serves {database}")
            seconds = write_everything(database, socket, total)
            checked = check_messages(db)
            now = datetime.now().strftime("%H:%M:%S")
            console.print(f"{now} {checked:,} messages are there, each once and in order")
            show_sessions(db)
            show_search(db)
            show_statistics(db, checked, seconds)
    finally:
        daemon.send_signal(signal.SIGTERM)
        status = daemon.wait(PATIENCE)
    if status != 0:
        sys.exit(f"the daemon ended with status {status}, see {database.with_suffix('.log')}")
    check_file(database)
    size = os.stat(database).st_size / 1e6
    console.print(f"the database is at {database} ({size:.1f} MB): look at it with any SQLite tool")


if __name__ == "__main__":
    main()
