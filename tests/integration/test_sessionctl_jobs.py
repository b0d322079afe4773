"""``sessionctl backup``, ``check``, ``reindex``, ``checkpoint`` and ``vacuum``, for real."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sessiond_client import SessionDB
from tests.support.sessionctl import COMMAND, FIRST, PATIENCE, Ctl, ctl, own

__all__ = ["ctl", "own"]


def foreign(own: Ctl, sql: str) -> None:
    """Another program changes the file."""
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=10)\n"
    program += "c.execute(sys.argv[2]); c.commit(); c.close()"
    subprocess.run(
        [sys.executable, "-c", program, str(own.daemon.database), sql],
        check=True,
        timeout=PATIENCE,
    )


def test_a_backup_is_a_database(own: Ctl, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    said = own.out("backup", str(target))
    assert re.fullmatch(
        rf"{target}: 3 sessions, 5 messages, \d+ KiB in \d+\.\d+ s\n", said
    ), said  # fmt: skip
    own.daemon.stop()
    looked = own.out(
        "list", "--json", "--database", str(target), SESSIOND_SOCKET=str(tmp_path / "other"),
        XDG_STATE_HOME=str(tmp_path / "logs"),
    )  # fmt: skip
    os.kill(
        json.loads(own.out("status", "--json", "--database", str(target),
                           SESSIOND_SOCKET=str(tmp_path / "other")))["pid"], 15,
    )  # fmt: skip
    assert FIRST in {each["id"] for each in json.loads(looked)}


def test_a_backup_into_a_directory_is_named(ctl: Ctl, tmp_path: Path) -> None:
    found = ctl.json("backup", str(tmp_path))
    [copy] = tmp_path.iterdir()
    assert re.fullmatch(r"state-\d{4}-\d\d-\d\d-\d{6}\.db", copy.name)
    assert (found["path"], found["bytes"]) == (str(copy), copy.stat().st_size)


def test_a_backup_replaces_nothing(ctl: Ctl, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("precious")
    assert str(there) in ctl.complaint("backup", str(there), status=os.EX_DATAERR)
    assert there.read_text() == "precious"
    ctl.run("backup", str(tmp_path / "no" / "where.db"), status=os.EX_DATAERR)


def test_a_sound_database_is_said_to_be(ctl: Ctl) -> None:
    for words in (("check",), ("check", "--now"), ("check", "--repair")):
        assert ctl.out(*words).startswith("nothing is wrong, looked for ")
    assert ctl.json("check")["sound"] is True


def test_what_is_wrong_ends_with_1_until_it_is_mended(own: Ctl) -> None:
    foreign(own, f"UPDATE sessions SET message_count = 77 WHERE id = '{FIRST}'")
    found = own.run("check", status=1)
    assert found.stderr == ""
    first, last = found.stdout.splitlines()
    assert first.startswith("counter: ")
    assert last == "wrong: counter; sessionctl check --repair mends it"
    assert json.loads(own.run("check", "--json", status=1).stdout)["counts"] == {"counter": 1}
    assert own.out("check", "--repair").splitlines()[-1] == "mended: counter"
    assert own.out("check").startswith("nothing is wrong")
    assert own.json("show", FIRST)["message_count"] == 3


def test_the_index_is_made_anew(own: Ctl) -> None:
    assert re.search(r"messages_fts.* made anew in \d", own.out("reindex"))
    assert own.json("reindex")["rebuilt"]
    assert FIRST in own.out("search", "docker")


def test_a_checkpoint_empties_the_log(own: Ctl) -> None:
    assert own.out("checkpoint") == "the write-ahead log is empty\n"
    assert own.json("checkpoint")["busy"] is False


def test_a_checkpoint_names_who_is_in_the_way(own: Ctl) -> None:
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN'); c.execute('SELECT count(*) FROM messages').fetchall()\n"
        "print('reads', flush=True); sys.stdin.read(); c.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(own.daemon.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        with SessionDB(**own.daemon.arguments) as db:
            db.append_message(FIRST, "user", "more")
        said = own.run("checkpoint", status=os.EX_TEMPFAIL).stdout
        reader.communicate(timeout=PATIENCE)
    assert f"pid {reader.pid}" in said
    assert " reads through it" in said


def test_a_vacuum_asks_and_gives_pages_back(own: Ctl) -> None:
    with SessionDB(**own.daemon.arguments) as db:
        db.create_session("big", "cli")
        db.append_messages("big", [{"role": "user", "content": "x" * 4000}] * 400)
        db.delete_session("big")
    refused = own.complaint("vacuum", status=os.EX_USAGE)
    assert "Others cannot write for about a second. Nobody can answer here; --yes" in refused
    declined = own.at_terminal("vacuum", answer="n\n")
    assert (declined.status, "[y/N]" in declined.text) == (1, True)
    found = own.json("vacuum", "--yes")
    assert found["bytes_after"] < found["bytes_before"]
    accepted = own.at_terminal("vacuum", answer="y\n")
    assert accepted.status == 0
    assert re.search(r"before, .* now, in \d", accepted.lines[-1])


@pytest.mark.parametrize("name", ["check", "reindex"])
def test_a_terminal_sees_progress_and_nothing_is_left_of_it(ctl: Ctl, name: str) -> None:
    seen = ctl.at_terminal(name)
    assert seen.status == 0
    assert "\x1b[2K" in seen.raw  # the bar, and its line wiped
    assert "%" in seen.text


def test_an_interrupt_says_that_the_daemon_goes_on(ctl: Ctl) -> None:
    program = (
        "import sys\n"
        "from sessiond_client import SessionDB\n"
        "from sessiond_client.cli.program import run\n"
        "def interrupted(self, **_):\n"
        "    raise KeyboardInterrupt\n"
        "SessionDB.check = interrupted\n"
        "sys.exit(run(['check']))\n"
    )
    done = subprocess.run(
        [*COMMAND[:1], "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=ctl.environment(),
    )
    assert done.returncode == 130
    assert done.stderr == "sessionctl: interrupted; the daemon goes on with the check\n"
