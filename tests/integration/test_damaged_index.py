"""A search that finds an index damaged: answered in full, and the index is made anew."""

import asyncio
import subprocess
import sys

import pytest

from sessiond_client import AsyncSessionDB, SessionDB
from tests.support.daemon import Daemon

DAMAGE = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=10)
c.execute("UPDATE messages_fts_data SET block = x'00' WHERE id > 10")
c.commit()
c.close()
"""
ROWS = 30


def prepare(daemon: Daemon) -> None:
    with SessionDB(**daemon.arguments) as db:
        for number in range(ROWS):
            db.ensure_session("s")
            db.append_message("s", "user", f"apple {number}")
        assert len(db.search_messages("apple", limit=100)) == ROWS
    subprocess.run([sys.executable, "-c", DAMAGE, str(daemon.database)], check=True, timeout=30)


def await_repair(daemon: Daemon) -> None:
    with SessionDB(**daemon.arguments) as db:
        while not (index := db.get_stats()["index"])["rebuilds"] or index["state"] != "healthy":
            assert index["state"] != "healthy" or not index["rebuilds"]
    assert "a search index is damaged" in daemon.log


# In this process SQLite is loaded twice, so that "auto" would read through the daemon, too.
@pytest.mark.parametrize("reads", ["daemon", "direct"])
def test_blocking(own_daemon: Daemon, reads: str) -> None:
    prepare(own_daemon)
    program = (
        "import sys; from sessiond_client import SessionDB\n"
        "db = SessionDB(sys.argv[1], socket=sys.argv[2], autostart=False, reads=sys.argv[3])\n"
        "print(len(db.search_messages('apple', limit=100)))\n"
        "db.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(own_daemon.database), str(own_daemon.socket), reads],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == f"{ROWS}\n"
    await_repair(own_daemon)


def test_asyncio(own_daemon: Daemon) -> None:
    prepare(own_daemon)

    async def search() -> int:
        async with AsyncSessionDB(**own_daemon.arguments) as db:
            return len(await db.search_messages("apple", limit=100))

    assert asyncio.run(search()) == ROWS
    await_repair(own_daemon)
