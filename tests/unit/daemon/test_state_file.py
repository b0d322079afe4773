"""What a daemon writes beside the database."""

import os
import stat
from pathlib import Path

import pytest

from sessiond.state_file import Announcement, boot_id, replace_file
from sessiond_protocol import state_file
from sessiond_protocol.state_file import State, StateFile


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def _read(database: Path) -> StateFile | None:
    return state_file.read(f"{database}.sessiond")


def test_a_first_daemon_says_that_it_starts(database: Path) -> None:
    announcement = Announcement(str(database))
    assert announcement.take_over() is None
    found = _read(database)
    assert found is not None
    assert found == announcement.state
    assert (found.pid, found.state, found.boot_id) == (os.getpid(), State.STARTING, boot_id())


def test_changes_add_up(database: Path) -> None:
    announcement = Announcement(str(database))
    announcement.say(state=State.SERVING, socket="/s", generation="ab", commits=5)
    announcement.say(state=State.STOPPING)
    found = _read(database)
    assert found is not None
    assert (found.state, found.socket, found.commits) == (State.STOPPING, "/s", 5)


def test_what_the_predecessor_knew_outlives_a_start_that_is_cut_short(database: Path) -> None:
    before = StateFile(
        1, State.STOPPED, 1.5, "boot", "/old", "ab", commits=7, message="m", stray_log="1:2"
    )
    replace_file(f"{database}.sessiond", before.render())
    assert Announcement(str(database)).take_over() == before
    assert Announcement(str(database)).take_over() is not None
    found = _read(database)
    assert found is not None
    assert (found.generation, found.commits, found.stray_log) == ("ab", 7, "1:2")
    assert (found.pid, found.socket, found.message) == (os.getpid(), "", "")


def test_garbage_in_its_place_is_replaced(database: Path) -> None:
    Path(f"{database}.sessiond").write_bytes(b"{{{")
    assert Announcement(str(database)).take_over() is None
    assert _read(database) is not None


def test_everybody_may_read_it_whatever_the_umask(database: Path) -> None:
    before = os.umask(0o077)
    try:
        Announcement(str(database)).say()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(f"{database}.sessiond").st_mode) == 0o644


def test_a_reader_keeps_the_old_content_and_nothing_is_left_over(database: Path) -> None:
    announcement = Announcement(str(database))
    announcement.say(commits=1)
    with open(f"{database}.sessiond", "rb") as old:
        announcement.say(commits=2)
        before = state_file.parse(old.read())
    assert before is not None
    assert before.commits == 1
    assert os.listdir(database.parent) == ["state.db.sessiond"]


def test_it_lies_beside_the_file_and_not_beside_a_link(database: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    database.symlink_to(tmp_path / "real/state.db")
    Announcement(str(database)).say()
    assert state_file.read(str(tmp_path / "real/state.db.sessiond")) is not None


def test_a_place_that_cannot_be_written_is_logged_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    announcement = Announcement(str(tmp_path / "none/state.db"))
    announcement.say(state=State.SERVING)
    assert "No such file or directory" in caplog.text
    assert announcement.state.state is State.SERVING


def test_a_failed_replacement_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(str(tmp_path / "f"), b"x")
    assert os.listdir(tmp_path) == ["f"]


def test_a_link_planted_aside_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / f"f.{os.getpid()}").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        replace_file(str(tmp_path / "f"), b"x")
    assert not (tmp_path / "victim").exists()
