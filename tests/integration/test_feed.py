"""The feed, through both clients and through everything that can happen to a connection."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sessiond_client import AsyncSessionDB, Event, SessionDB
from sessiond_client import _watch as watching
from tests.support.daemon import Daemon

PATIENCE = 10.0


def take(events: Iterator[Event], wanted: Callable[[list[Event]], bool]) -> list[Event]:
    """Events until there are enough of them; fails after ten seconds."""
    found: list[Event] = []
    done = threading.Event()

    def run() -> None:
        for event in events:
            found.append(event)
            if wanted(found):
                break
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    in_time = done.wait(PATIENCE)
    if not in_time:
        events.close()  # type: ignore[attr-defined]
    thread.join(PATIENCE)
    assert in_time, f"only {len(found)} events came: {found[-3:]}"
    return found


def messages(events: list[Event]) -> list[str]:
    return [event.message["content"] for event in events if event.message is not None]


def _has(count: int, events: list[Event]) -> bool:
    return len(messages(events)) >= count


def test_messages_and_session_events_in_commit_order(daemon: Daemon) -> None:
    with SessionDB(**daemon.arguments) as db, db.watch("order") as feed:
        db.create_session("order", "test")
        db.append_message("order", "user", [{"type": "text", "text": "hi"}])
        # What is gone before the feed has read it is never told of.
        events = take(feed, lambda found: found[-1].kind == "message")
        db.set_session_title("order", "A title")
        db.replace_messages("order", [{"role": "user", "content": "anew"}])
        events += take(feed, lambda found: found[-1].kind == "messages_replaced")
        db.clear_messages("order")
        db.end_session("order", "done")
        db.reopen_session("order")
        db.delete_session("order")
        events += take(feed, lambda found: found[-1].kind == "session_deleted")
    kinds = [event.kind for event in events]
    assert kinds == [
        "session_created",
        "message",
        "session_titled",
        "message",
        "messages_replaced",
        "messages_cleared",
        "session_ended",
        "session_reopened",
        "session_deleted",
    ]
    assert events[1].message is not None
    assert events[1].message["content"] == [{"type": "text", "text": "hi"}]
    assert (events[2].text, events[6].text) == ("A title", "done")
    assert events[4].first_id == events[4].last_id == events[3].message["id"]  # type: ignore[index]


def test_stored_messages_come_first_then_live_ones(daemon: Daemon) -> None:
    with SessionDB(**daemon.arguments) as db:
        db.create_session("stored", "test")
        ids = [db.append_message("stored", "user", str(number)) for number in range(450)]
        with db.watch("stored", after=ids[9]) as feed:
            found = take(feed, lambda found: len(found) == 440)
            assert messages(found) == [str(number) for number in range(10, 450)]
            db.append_message("stored", "user", "live")
            assert messages(take(feed, lambda found: True)) == ["live"]


def test_a_watch_of_one_session_hears_nothing_of_others(daemon: Daemon) -> None:
    with SessionDB(**daemon.arguments) as db, db.watch("mine") as feed:
        for name in ("theirs", "mine"):
            db.create_session(name, "test")
            db.append_message(name, "user", name)
        db.append_message("theirs", "user", "more")
        db.append_message("mine", "user", "last")
        found = take(feed, lambda found: messages(found)[-1:] == ["last"])
    assert {event.session_id for event in found} == {"mine"}


def test_no_gap_and_no_repeat_over_kills_of_the_daemon(own_daemon: Daemon) -> None:
    total = 600
    with SessionDB(**own_daemon.arguments) as db, SessionDB(**own_daemon.arguments) as writer:
        db.create_session("kills", "test")
        feed = db.watch("kills", after=0)

        def write() -> None:
            for number in range(total):
                writer.append_message("kills", "user", str(number))

        writing = threading.Thread(target=write)
        writing.start()
        found: list[Event] = []
        while len(messages(found)) < total:
            aim = min(total, len(messages(found)) + 150)
            missing = aim - len(messages(found))
            found += take(feed, partial(_has, missing))
            if aim < total:
                own_daemon.kill()
                own_daemon.start()
        writing.join(PATIENCE)
        feed.close()
    assert messages(found) == [str(number) for number in range(total)]
    assert {event.kind for event in found} <= {"message", "sessions_changed"}


def test_a_slow_consumer_is_told_and_misses_no_message(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_WAITING", 50)
    with SessionDB(**daemon.arguments) as db, SessionDB(**daemon.arguments) as other:
        db.create_session("slow", "test")
        with db.watch("slow") as feed:
            for start in range(0, 1000, 100):
                batch = [{"role": "user", "content": str(start + n)} for n in range(100)]
                other.append_messages("slow", batch)
                db.message_count("slow")
                db.get_stats()  # reads the socket, and with it what the feed has sent
            found = take(feed, lambda found: messages(found)[-1:] == ["999"])
    assert messages(found) == [str(number) for number in range(1000)]
    assert Event("sessions_changed", text="away") in found


def test_a_database_that_went_back_resets_the_feed(own_daemon: Daemon, tmp_path: Path) -> None:
    with SessionDB(**own_daemon.arguments) as db:
        db.create_session("back", "test")
        db.append_message("back", "user", "kept")
        own_daemon.stop()
        shutil.copy(own_daemon.database, tmp_path / "copy.db")
        own_daemon.start()
        with db.watch(after=0) as feed:
            take(feed, lambda found: bool(messages(found)))
            db.append_message("back", "user", "lost")
            take(feed, lambda found: messages(found) == ["lost"])
            own_daemon.stop()
            for leftover in own_daemon.folder.glob("state.db-*"):
                leftover.unlink()
            shutil.copy(tmp_path / "copy.db", own_daemon.database)
            own_daemon.start()
            found = take(feed, lambda found: found[-1].kind == "feed_reset")
            db.append_message("back", "user", "new history")
            found = take(feed, lambda found: messages(found) == ["new history"])
    assert [event.kind for event in found] == ["message"]


def test_other_programs_messages_are_seen(daemon: Daemon) -> None:
    script = (
        "import sqlite3, sys\n"
        "with sqlite3.connect(sys.argv[1], timeout=10) as c:\n"
        "    c.execute(\"INSERT INTO sessions (id, source, started_at) VALUES ('f', 'x', 1)\")\n"
        '    c.execute("INSERT INTO messages (session_id, role, content, timestamp)"\n'
        "              \" VALUES ('f', 'user', 'foreign', 1)\")\n"
        "c.close()\n"
    )
    with SessionDB(**daemon.arguments) as db, db.watch() as feed:
        db.create_session("before", "test")
        take(feed, lambda found: found[-1].session_id == "before")
        subprocess.run(
            [sys.executable, "-c", script, str(daemon.database)], check=True, timeout=PATIENCE
        )
        assert messages(take(feed, lambda found: bool(messages(found)))) == ["foreign"]
        assert sqlite3.sqlite_version_info >= (3, 37)


def test_rows_that_another_program_puts_below_the_cursor_reset_the_feed(daemon: Daemon) -> None:
    script = (
        "import sqlite3, sys\n"
        "with sqlite3.connect(sys.argv[1], timeout=10) as c:\n"
        '    c.execute("INSERT INTO messages (id, session_id, role, content, timestamp)"\n'
        "              \" VALUES (?, 'low', 'user', 'late', 1)\", (int(sys.argv[2]),))\n"
        "c.close()\n"
    )
    with SessionDB(**daemon.arguments) as db:
        for name in ("gone", "low"):
            db.create_session(name, "test")
        free = db.append_message("gone", "user", "x")
        db.append_message("low", "user", "y")
        with db.watch("low") as feed:
            db.delete_session("gone")
            db.append_message("low", "user", "z")
            take(feed, lambda found: messages(found) == ["z"])
            subprocess.run(
                [sys.executable, "-c", script, str(daemon.database), str(free)],
                check=True,
                timeout=PATIENCE,
            )
            found = take(feed, lambda found: found[-1].kind == "feed_reset")
    assert messages(found) == []


def test_closing_wakes_whoever_waits(daemon: Daemon) -> None:
    with SessionDB(**daemon.arguments) as db:
        feed = db.watch()
        waiting = threading.Thread(target=lambda: list(feed))
        waiting.start()
        db.get_stats()
        feed.close()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
        assert next(feed, None) is None


def test_a_closed_watch_is_fed_no_more(daemon: Daemon) -> None:
    with SessionDB(**daemon.arguments) as db:
        with db.watch():
            assert db.get_stats()["watchers"] == 1
        assert db.get_stats()["watchers"] == 0


def test_the_asyncio_client_watches(own_daemon: Daemon) -> None:
    async def run() -> list[str]:
        async with AsyncSessionDB(**own_daemon.arguments) as db:
            await db.create_session("async", "test")
            feed = db.watch("async", after=0)
            found: list[str] = []

            async def follow() -> None:
                async for event in feed:
                    if event.message is not None:
                        found.append(event.message["content"])
                    if len(found) == 200:
                        break

            following = asyncio.create_task(follow())
            await asyncio.gather(*(db.append_message("async", "user", str(n)) for n in range(100)))
            await asyncio.to_thread(own_daemon.kill)
            await asyncio.to_thread(own_daemon.start)
            for number in range(100, 200):
                await db.append_message("async", "user", str(number))
            await asyncio.wait_for(following, PATIENCE)
            waiting = asyncio.create_task(anext(feed, None))
            await asyncio.sleep(0)
            feed.close()
            assert await asyncio.wait_for(waiting, PATIENCE) is None
            return found

    assert asyncio.run(run()) == [str(number) for number in range(200)]
