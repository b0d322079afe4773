"""The daemon that a program starts: one for all, on its own, gone when nobody needs it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM
from socket import socket as Socket  # noqa: N812 (the name of the class it is)

import pytest

from sessiond_client import AsyncSessionDB, SessionDB, Unavailable
from sessiond_protocol.state_file import State
from tests.support.home import Home, await_end, home

__all__ = ["home"]

CLIENTS = 20
TIMEOUT = 30
STORES = (
    "import sys; from sessiond_client import SessionDB; SessionDB(sys.argv[1]).ensure_session('s')"
)
WHO_SERVES = "from sessiond_client import SessionDB; print(SessionDB().get_stats()['pid'])"


def at_once(program: str, times: int, *arguments: str) -> list[tuple[str, str]]:
    """Run a program several times at the same moment; what each printed, and its complaint."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(times)
    ]
    return [each.communicate(timeout=TIMEOUT) for each in running]


def test_the_first_program_starts_one_and_leaves_it_running(home: Home) -> None:
    with SessionDB() as db:
        db.create_session("s", source="cli")
        pid = db.get_stats()["pid"]
        assert home.daemons() == {pid}
    with SessionDB(autostart=False) as db:
        assert db.get_stats()["pid"] == pid
        assert db.get_session("s") is not None


def test_with_asyncio(home: Home) -> None:
    async def count() -> int:
        async with AsyncSessionDB() as db:
            return await db.session_count()

    assert asyncio.run(count()) == 0
    assert len(home.daemons()) == 1


def test_many_programs_at_once_get_the_same_one(home: Home) -> None:
    told = at_once(WHO_SERVES, CLIENTS)
    assert [complaint for _, complaint in told if complaint] == []
    assert {int(pid) for pid, _ in told} == home.daemons()
    assert home.log.count(" serving ") == 1


def test_it_belongs_to_nobody(home: Home) -> None:
    with SessionDB() as db:
        pid = db.get_stats()["pid"]
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    _, parent, _, session, terminal = after_name[:5]
    assert int(parent) != os.getpid()
    assert int(session) == pid
    assert terminal == "0"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_its_output_goes_to_the_state_directory(home: Home) -> None:
    with SessionDB() as db:
        pid = db.get_stats()["pid"]
    logs = list((home.folder / ".local/state/sessiond").glob("*.log"))
    assert [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)] == [
        os.devnull,
        os.devnull,
        str(logs[0]),
    ]
    assert f"serving {home.database}" in logs[0].read_text("utf-8")
    assert (home.folder / ".local/state/sessiond").stat().st_mode & 0o077 == 0


def test_a_service_that_starts_it_is_not_spoken_for(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Socket(AF_UNIX, SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        with SessionDB() as db:
            assert db.session_count() == 0
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def test_modules_beside_the_program_are_not_the_daemons(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with SessionDB() as db:
        assert db.session_count() == 0


# --- leaving -----------------------------------------------------------------------------------


def test_it_stays_for_ten_minutes_by_default(home: Home) -> None:
    with SessionDB() as db:
        pid = db.get_stats()["pid"]
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert words[words.index(b"--idle-exit") + 1] == b"10min"


def test_it_leaves_when_nobody_came_and_the_next_one_finds_everything(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIOND_IDLE_EXIT", "100ms")
    with SessionDB() as db:
        db.create_session("s", source="cli")
        pid = db.get_stats()["pid"]
    await_end(pid)
    assert home.state.state is State.STOPPED
    assert not Path(home.state.socket).exists()
    assert "nobody was here for 0.1 s, leaving" in home.log
    with SessionDB() as db:
        assert db.get_stats()["pid"] != pid
        assert db.get_session("s") is not None


def test_a_request_at_the_moment_of_leaving_is_not_lost(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIOND_IDLE_EXIT", "1ms")
    stored = []
    with SessionDB() as db:
        db.create_session("s", source="cli")
    for text in ("one", "two", "three"):
        home.await_state(State.STOPPING)
        with SessionDB() as db:
            stored.append(db.append_message("s", "user", text))
    with SessionDB() as db:
        found = db.get_messages("s")
    assert [row["id"] for row in found] == stored
    assert [row["content"] for row in found] == ["one", "two", "three"]


# --- when there is none ------------------------------------------------------------------------


def test_without_autostart_the_error_says_what_to_run(home: Home) -> None:
    with SessionDB(autostart=False, timeout=0.2) as db, pytest.raises(Unavailable) as caught:
        db.create_session("s", source="cli")
    assert f"start one with: sessiond serve --database {home.database}" in str(caught.value)
    assert home.daemons() == set()


def test_a_look_that_may_not_start_one_keeps_nobody_from_it(home: Home) -> None:
    with SessionDB(autostart=False, timeout=0.2), SessionDB() as db:
        assert db.session_count() == 0
    assert len(home.daemons()) == 1


def not_a_database(path: Path) -> str:
    """Put something else there; what the daemon says of it."""
    path.write_text("shopping list\n" * 500)
    return "is not a SQLite database"


def a_directory(path: Path) -> str:
    """Put a directory there; what the daemon says of it."""
    path.mkdir()
    return "is a directory"


@pytest.mark.parametrize("spoil", [not_a_database, a_directory])
@pytest.mark.parametrize("attempts", [1, 2])
def test_one_that_cannot_start_says_why_and_how_to_see_it(
    home: Home, attempts: int, spoil: Callable[[Path], str]
) -> None:
    path = home.folder / "it"
    reason = spoil(path)
    for _ in range(attempts):
        with SessionDB(path) as db, pytest.raises(Unavailable) as caught:
            db.create_session("s", source="cli")
    lines = str(caught.value).splitlines()
    assert lines[0].endswith(f"-m sessiond serve --database {path}")
    assert len(lines) == 2, "only the last attempt's log"
    assert str(path) in lines[1]
    assert reason in lines[1]


def test_a_directory_that_cannot_be_made(home: Home) -> None:
    path = "/proc/none/state.db"
    with SessionDB(path) as db, pytest.raises(Unavailable) as caught:
        db.create_session("s", source="cli")
    assert "/proc/none: No such file or directory" in str(caught.value)
    assert f"-m sessiond serve --database {path}" in str(caught.value)


def test_all_who_wait_for_one_that_cannot_start_learn_why(home: Home) -> None:
    path = home.folder / "it"
    reason = not_a_database(path)
    told = at_once(STORES, 6, str(path))
    assert all(reason in complaint for _, complaint in told), told


def test_a_killed_one_is_replaced(home: Home) -> None:
    with SessionDB() as db:
        db.create_session("s", source="cli")
        first = db.get_stats()["pid"]
        os.kill(first, signal.SIGKILL)
        await_end(first)
        db.append_message("s", "user", "after the crash")
        assert db.get_stats()["pid"] != first
        assert db.message_count("s") == 1


def test_too_little_time_for_a_start_is_told_with_what_to_do(home: Home) -> None:
    with SessionDB(timeout=0.01) as db, pytest.raises(Unavailable) as caught:
        db.ensure_session("s")
    told = str(caught.value)
    assert "run it yourself: " in told
    assert f"serve --database {home.database}" in told
