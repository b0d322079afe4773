"""``sessionctl`` with a real daemon: looking, at a terminal and in a pipe, and nobody there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.support.daemon import running
from tests.support.sessionctl import (
    COMMAND,
    FIRST,
    JAPANESE,
    PATIENCE,
    UNTITLED,
    Ctl,
    ctl,
    own,
)

__all__ = ["ctl", "own"]


# --- looking -------------------------------------------------------------------------------


def test_list_prints_the_newest_first(ctl: Ctl) -> None:
    head, *rows = ctl.out("list").splitlines()
    assert head.split() == ["ID", "TITLE", "SOURCE", "MESSAGES", "LAST", "ACTIVE"]
    assert [row.split()[0] for row in rows] == [UNTITLED, JAPANESE, FIRST]
    assert "Docker for beginners" in rows[2]
    assert "A first message" in rows[0]


def test_list_filters_and_pages(ctl: Ctl) -> None:
    def ids(*words: str) -> list[str]:
        return [each["id"] for each in ctl.json("list", *words)]

    assert ids() == [UNTITLED, JAPANESE, FIRST]
    assert ids("--source", "cli") == [JAPANESE]
    assert ids("-x", "cli", "-x", "discord") == [FIRST]
    assert ids("-n", "1", "--offset", "1") == [JAPANESE]
    assert ids("--source", "nobody") == []


def test_show_prints_a_transcript(ctl: Ctl) -> None:
    text = ctl.out("show", FIRST)
    facts, *messages = text.split("\n\n")
    assert "title     Docker for beginners\n" in facts
    assert "tokens    1,200 input, 34 output\n" in facts
    assert [each.split()[0] for each in messages] == ["user", "assistant", "tool"]
    assert "  How do I install Docker?" in messages[0]
    assert "  reasoning: 17 characters\n" in messages[1]
    assert "  I look it up ␛[31m[bold]now[/bold].\n" in messages[1]
    assert '  → look(for="Docker")' in messages[1]
    assert "more characters, --full shows them" in messages[2]
    assert "line 49" in ctl.out("show", FIRST, "--full")


@pytest.mark.parametrize("name", ["20250101", "Docker for beginners", FIRST])
def test_show_takes_a_prefix_or_a_title(ctl: Ctl, name: str) -> None:
    assert ctl.json("show", name)["id"] == FIRST


def test_show_pages(ctl: Ctl) -> None:
    def roles(*words: str) -> list[str]:
        return [each["role"] for each in ctl.json("show", FIRST, *words)["messages"]]

    assert roles() == ["user", "assistant", "tool"]
    assert roles("--limit", "1", "--offset", "1") == ["assistant"]
    assert roles("--last", "2") == ["assistant", "tool"]
    assert ctl.out("show", FIRST, "--raw", "-n", "2") == (
        "How do I install Docker?\nI look it up \x1b[31m[bold]now[/bold].\n"
    )


def test_a_session_that_is_not_there_suggests_others(ctl: Ctl) -> None:
    assert ctl.complaint("show", "docker for beginner", status=os.EX_NOINPUT) == (
        "no session 'docker for beginner'; did you mean 'Docker for beginners'?"
    )
    assert ctl.complaint("show", "2025", status=os.EX_NOINPUT) == (
        f"'2025' is the beginning of {UNTITLED}, {JAPANESE}, {FIRST}: type more of it"
    )


def test_search_marks_what_it_found(ctl: Ctl) -> None:
    text = ctl.out("search", "install", "docker")
    assert FIRST in text.splitlines()[0]
    assert text.splitlines()[1] == "  How do I >>>install<<< >>>Docker<<<?"
    assert "assistant: I look it up ␛[31m" in ctl.out("search", "install", "--context")


def test_search_filters_and_finds_parts_of_cjk(ctl: Ctl) -> None:
    def sessions(*words: str) -> list[str]:
        return [each["session_id"] for each in ctl.json("search", *words)]

    assert sessions("天気") == [JAPANESE]
    assert sessions("message OR docker", "--role", "user", "-x", "discord") == [FIRST]
    assert sessions("message OR docker", "-s", "discord") == [UNTITLED]


def test_nothing_found_ends_with_1(ctl: Ctl) -> None:
    done = ctl.run("search", "zebra", status=1)
    assert (done.stdout, done.stderr) == ("", "")
    assert ctl.run("search", "zebra", "--json", status=1).stdout == "[]\n"


def test_stats_are_readable(ctl: Ctl) -> None:
    text = ctl.out("stats")
    assert "holds         3 sessions, 5 messages\n" in text
    assert " ms " in next(line for line in text.splitlines() if line.startswith("commit "))
    assert ctl.json("stats")["writer"]["commit_seconds"]["count"] > 0


def test_status_says_how_the_daemon_fares(ctl: Ctl) -> None:
    text = ctl.out("status")
    assert f"pid {ctl.daemon.pid}, serving for " in text
    assert f"socket      {ctl.daemon.socket}\n" in text
    assert f"database    {ctl.daemon.database}\n" in text
    assert "health      good\n" in text
    assert text.splitlines()[-1].split()[0].isdigit()
    found = ctl.json("status")
    assert found["running"] is True
    assert found["pid"] == ctl.daemon.pid
    assert found["database_bytes"] == ctl.daemon.database.stat().st_size


def test_config_says_where_things_come_from(ctl: Ctl) -> None:
    found = ctl.json("config")
    assert found["database"] == {
        "value": str(ctl.daemon.database),
        "origin": "SESSIOND_DATABASE",
    }
    assert found["socket"] == {"value": str(ctl.daemon.socket), "origin": "SESSIOND_SOCKET"}
    assert found["daemon"] == "answers"
    chosen = ctl.json("config", "--database", "/nowhere/x.db", "--socket", "/nowhere/s")
    assert [chosen[name]["origin"] for name in ("database", "socket")] == ["--database", "--socket"]
    assert chosen["settings"] is None


def test_config_without_anything_chosen(ctl: Ctl, tmp_path: Path) -> None:
    chosen = {"SESSIOND_DATABASE": "", "SESSIOND_SOCKET": "", "HERMES_HOME": str(tmp_path)}
    found = json.loads(ctl.out("config", "--json", **chosen))
    assert found["database"] == {"value": f"{tmp_path}/state.db", "origin": "HERMES_HOME"}
    assert found["socket"]["origin"] == "the usual place"
    assert found["daemon"] == "does not answer"
    assert "from: HERMES_HOME" in ctl.out("config", **chosen)


# --- terminals and pipes -------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [("list",), ("status",), ("stats",), ("search", "天気"), ("search", "message")]
)
def test_what_a_terminal_shows_fits_into_80_columns(ctl: Ctl, words: tuple[str, ...]) -> None:
    seen = ctl.at_terminal(*words)
    assert seen.status == 0
    long = [line for line in seen.lines if cell_len(line) > 80]
    # A path is not cut: it is to be copied.
    assert [line for line in long if str(ctl.daemon.folder) not in line] == []


def test_a_table_at_a_terminal_keeps_its_important_columns(ctl: Ctl) -> None:
    lines = ctl.at_terminal("list").lines
    japanese = next(line for line in lines if line.startswith(JAPANESE))
    assert "…" in japanese
    assert "cli" in japanese
    assert japanese.rstrip().endswith("just now") or japanese.rstrip().endswith("ago")


def test_a_terminal_gets_colours_and_bold_matches(ctl: Ctl) -> None:
    seen = ctl.at_terminal("search", "docker", "--role", "user")
    assert ">>>" not in seen.raw
    assert "\x1b[1;33mDocker" in seen.raw


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_they_are_not_wanted(ctl: Ctl, environment: dict[str, str]) -> None:
    for words in (("list",), ("show", FIRST), ("search", "docker")):
        raw = ctl.at_terminal(*words, **environment).raw
        assert not any(f"\x1b[{code}m" in raw for code in (36, "1;32", "1;33", 35))
        assert "33m" not in raw


def test_a_pipe_gets_no_colours_and_nothing_cut(ctl: Ctl) -> None:
    text = ctl.out("list") + ctl.out("show", FIRST) + ctl.out("search", "docker")
    assert "\x1b" not in text
    assert "…" not in ctl.out("list")


@pytest.mark.parametrize(
    "words",
    [
        ("list",), ("list", "--json"), ("show", FIRST, "--full"), ("show", FIRST, "--raw"),
        ("search", "docker"), ("stats",), ("status", "--json"), ("export",), ("--help",),
        ("list", "--help"), ("config",),
    ],
)  # fmt: skip
def test_a_pipe_that_closes_early_is_no_error(ctl: Ctl, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, *words],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
            env=ctl.environment(),
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said(ctl: Ctl) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=ctl.environment(),
        )
    assert done.returncode == os.EX_IOERR
    assert done.stderr == "sessionctl: the output: No space left on device\n"


def test_an_encoding_without_the_characters_shows_escapes(ctl: Ctl) -> None:
    environment = {"PYTHONIOENCODING": "ascii"}
    assert "\\u6771\\u4eac" in ctl.out("show", JAPANESE, **environment)
    found = json.loads(ctl.out("show", JAPANESE, "--json", **environment))
    assert found["title"].startswith("東京")


# --- nobody there --------------------------------------------------------------------------


def test_without_a_daemon_status_says_so_and_starts_none(own: Ctl) -> None:
    own.daemon.stop()
    for name in ("status", "stats"):
        said = own.complaint(name, status=os.EX_UNAVAILABLE)
        assert said.startswith(f"no daemon serves {own.daemon.database} (the last one, pid ")
        assert said.endswith(f"start one with: sessiond serve --database {own.daemon.database}"
                             f" --socket {own.daemon.socket}")  # fmt: skip
    done = own.run("status", "--json", status=os.EX_UNAVAILABLE)
    found = json.loads(done.stdout)
    assert (found["running"], found["state"]) == (False, "stopped")
    assert found["database_bytes"] > 0
    assert not own.daemon.socket.exists()


def test_a_crashed_daemon_is_told_from_one_that_stopped(own: Ctl) -> None:
    pid = own.daemon.pid
    own.daemon.kill()
    assert f"the last one, pid {pid}, is gone without a word" in own.complaint(
        "status", status=os.EX_UNAVAILABLE
    )


def test_a_daemon_that_hangs_is_told_from_none(own: Ctl) -> None:
    os.kill(own.daemon.pid, signal.SIGSTOP)
    try:
        said = own.complaint("status", "--timeout", "0.3", status=os.EX_TEMPFAIL)
    finally:
        os.kill(own.daemon.pid, signal.SIGCONT)
    assert said == (
        f"the daemon of {own.daemon.database} accepts connections but did not answer within 0.3 s"
        f" (pid {own.daemon.pid} is serving but does not answer)"
    )


def test_a_database_of_another_kind_is_named(ctl: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("no database " * 100, "utf-8")
    environment = {"SESSIOND_SOCKET": "", "XDG_STATE_HOME": str(tmp_path / "logs")}
    done = ctl.run("list", "--database", str(file), status=os.EX_UNAVAILABLE, **environment)
    assert f"{file} is not a SQLite database" in done.stderr


# What is imported later may lie where nobody may look.
AS_NOBODY = """
import locale, os, random, sys  # what cannot be read any more afterwards
import sessiond_client.cli.commands.status
from sessiond_client.cli.program import run
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(run(["status"]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_somebody_else_is_refused() -> None:
    folder = Path(tempfile.mkdtemp(prefix="sessionctl-"))
    try:
        folder.chmod(0o755)
        for daemon in running(folder):
            daemon.socket.chmod(0o666)
            done = subprocess.run(
                [sys.executable, "-c", AS_NOBODY],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                env=Ctl(daemon).environment(),
            )
            assert done.returncode == os.EX_NOPERM, done.stderr
            assert done.stderr.startswith("sessionctl: ")
            assert "Traceback" not in done.stderr
    finally:
        shutil.rmtree(folder)


def test_another_socket_is_told(ctl: Ctl) -> None:
    said = ctl.complaint("status", "--socket", "/nowhere/s", status=os.EX_UNAVAILABLE)
    assert f"pid {ctl.daemon.pid} serves it on {ctl.daemon.socket}" in said


def test_looking_starts_a_daemon(own: Ctl, tmp_path: Path) -> None:
    own.daemon.stop()
    environment = {"XDG_STATE_HOME": str(tmp_path / "logs")}
    try:
        assert FIRST in own.out("list", **environment)
    finally:
        os.kill(own.json("status")["pid"], 15)


def test_a_mistyped_database_is_not_made(ctl: Ctl, tmp_path: Path) -> None:
    wrong = tmp_path / "no such.db"
    for words in (("list",), ("show", "x"), ("search", "x"), ("export",), ("delete", "x"),
                  ("status",), ("prune", "--yes")):  # fmt: skip
        done = ctl.run(*words, "--database", str(wrong), status=os.EX_NOINPUT, SESSIOND_SOCKET="")
        assert done.stderr.startswith(f"sessionctl: there is no database {wrong}; ")
    assert list(tmp_path.iterdir()) == []
