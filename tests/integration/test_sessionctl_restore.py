"""``sessionctl restore``, through a daemon and without one."""

import json
import shutil
from pathlib import Path

import pytest

from sessiond_client import SessionDB
from tests.support.sessionctl import FIRST, Ctl, own

__all__ = ["own"]


@pytest.fixture
def backup(own: Ctl, tmp_path: Path) -> Path:
    """A backup of three sessions; one of them is deleted since."""
    path = tmp_path / "backup.db"
    with SessionDB(**own.daemon.arguments) as db:
        db.backup(path)
        db.delete_session(FIRST)
    return path


def ids(ctl: Ctl) -> set[str]:
    return {each["id"] for each in ctl.json("list")}


def test_through_the_daemon(own: Ctl, backup: Path) -> None:
    pid = own.daemon.pid
    first, second = own.out("restore", str(backup), "--yes").splitlines()
    assert first.startswith(f"restored {own.daemon.database} from {backup}: 3 sessions, ")
    assert Path(second.removeprefix("the database before is kept in ")).exists()
    assert FIRST in ids(own)
    assert own.json("status")["pid"] == pid


def test_without_a_daemon(own: Ctl, backup: Path) -> None:
    own.daemon.stop()
    found = json.loads(own.out("restore", str(backup), "--yes", "--json"))
    own.daemon.start()
    through = json.loads(own.out("restore", str(backup), "--yes", "--json"))
    assert found.keys() <= through.keys()
    assert (found["sessions"], found["database"]) == (3, str(own.daemon.database))
    assert (through["sessions"], through["backup"]) == (3, str(backup))
    assert FIRST in ids(own)


def test_it_asks_first(own: Ctl, backup: Path) -> None:
    assert "--yes does it unasked" in own.complaint("restore", str(backup), status=64)
    declined = own.at_terminal("restore", str(backup), answer="n\n")
    assert declined.status == 1
    assert FIRST not in ids(own)
    assert own.at_terminal("restore", str(backup), answer="y\n").status == 0
    assert FIRST in ids(own)


def test_what_is_no_backup(own: Ctl, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("shopping list\n" * 500)
    said = own.complaint("restore", str(other), "--yes", status=65)
    assert "is not a SQLite database" in said
    assert own.complaint("restore", "missing", "--yes", status=66)
    own.daemon.stop()
    done = own.run("restore", str(other), "--yes", status=65)
    assert done.stderr.startswith("sessiond: ")
    assert "is not a SQLite database" in done.stderr
    own.daemon.start()


def test_a_database_that_is_not_there_yet(own: Ctl, backup: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    place = {"SESSIOND_DATABASE": str(new), "SESSIOND_SOCKET": ""}
    assert "restored" in own.out("restore", str(backup), **place)
    shutil.copy(new, tmp_path / "copy.db")
    assert not list(tmp_path.glob("new.db.before-restore*"))
