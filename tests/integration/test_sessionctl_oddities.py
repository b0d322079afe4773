"""``sessionctl`` where things are odd: closed streams, pipes for files, strangers, terminals."""

import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from sessiond_client import SessionDB
from tests.support.daemon import running
from tests.support.sessionctl import COMMAND, FIRST, PATIENCE, Ctl, ctl, own
from tests.support.terminal import INTERRUPT, at_terminal

__all__ = ["ctl", "own"]


# --- streams -------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["list", "list --json", "status", "export", "metrics"])
def test_closed_streams_are_no_error(ctl: Ctl, words: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(COMMAND)} {words} <&- >&- 2>&-"],
        timeout=PATIENCE, check=False, env=ctl.environment(),
    )  # fmt: skip
    assert done.returncode == 0


def test_nobody_answers_where_the_input_is_closed(ctl: Ctl) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(COMMAND)} delete {FIRST} <&-"],
        stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False, env=ctl.environment(),
    )  # fmt: skip
    assert done.returncode == os.EX_USAGE
    assert "--yes does it unasked" in done.stderr


@pytest.mark.parametrize("terminal", ["dumb", "unknown"])
def test_a_terminal_that_cannot_redraw_gets_lines(own: Ctl, terminal: str) -> None:
    seen = own.at_terminal("check", TERM=terminal)
    assert seen.raw.startswith("nothing is wrong")
    seen = at_terminal(
        [*COMMAND, "top", "--interval", "100ms"],
        then=[("CPU", ""), ("%", INTERRUPT)],
        environment=own.environment(TERM=terminal),
    )
    assert seen.status == 130
    assert seen.lines[0].startswith("TIME  ")
    assert "\x1b" not in seen.raw


# --- where an export goes ------------------------------------------------------------------


def test_an_export_to_a_pipe_leaves_it_a_pipe(ctl: Ctl, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text("utf-8")))
    reader.start()
    assert ctl.out("export", "-o", str(pipe)) == f"3 sessions exported to {pipe}\n"
    reader.join(PATIENCE)
    assert got[0].count("\n") == 3
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_export_through_a_link_leaves_the_link(ctl: Ctl, tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    ctl.out("export", "-o", str(link))
    assert link.is_symlink()
    assert file.read_text("utf-8").count("\n") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_dash_is_standard_output(ctl: Ctl) -> None:
    assert ctl.out("export", "-o", "-") == ctl.out("export")


def test_a_session_that_cannot_name_a_file_is_left_out_and_not_counted(
    own: Ctl, tmp_path: Path
) -> None:
    with SessionDB(**own.daemon.arguments) as db:
        db.create_session("x" * 300, "cli")
        db.create_session("../x", "cli")
    done = own.run("export", "--transcripts", str(tmp_path / "out"))
    assert done.stdout == f"3 sessions exported to {tmp_path / 'out'}\n"
    assert "session id of 300 bytes is too long for a file's name: xxx" in done.stderr
    assert "'../x' cannot name a file" in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 3


# --- places --------------------------------------------------------------------------------


def test_a_socket_that_nobody_can_listen_on_is_told_at_once(ctl: Ctl) -> None:
    said = ctl.complaint("list", "--socket", "/nowhere/s", status=os.EX_UNAVAILABLE)
    assert f"pid {ctl.daemon.pid} serves it on {ctl.daemon.socket}" in said


@pytest.mark.parametrize(
    ("path", "why"),
    [(b"a\xff.db", "is not UTF-8: SQLite opens no other"), (b":memory:", "give a path")],
)
def test_a_path_that_is_no_database_is_said(ctl: Ctl, path: bytes, why: str) -> None:
    for program, status in ((COMMAND[2], os.EX_USAGE), ("sessiond", os.EX_CONFIG)):
        action = b"list" if program == COMMAND[2] else b"serve"
        done = subprocess.run(
            [sys.executable, "-m", program, action, b"--database", path],
            stderr=subprocess.PIPE, timeout=PATIENCE, check=False, env=ctl.environment(),
        )  # fmt: skip
        said = done.stderr.decode("utf-8", "backslashreplace")
        assert (done.returncode, said.count("\n")) == (status, 1), said
        assert why in said
        assert "cannot listen" not in said


AS_SOMEBODY = """
import locale, os, random, sys  # what cannot be read any more afterwards
import sessiond_client.cli.commands.status, sessiond_client.cli.commands.stop
from sessiond_client.cli.program import run
os.setgroups([])
os.setresgid(65533, 65533, 65533)
os.setresuid(65533, 65533, 65533)
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
@pytest.mark.parametrize("name", ["status", "stop"])
def test_a_socket_out_of_reach_is_told_from_a_daemon_that_is_gone(name: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="sessionctl-"))
    try:
        for daemon in running(folder):
            done = subprocess.run(
                [sys.executable, "-c", AS_SOMEBODY, name],
                stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
                env=Ctl(daemon).environment(),
            )  # fmt: skip
            assert done.stderr == (
                f"sessionctl: the daemon of {daemon.database} cannot be reached by uid 65533:"
                f" {daemon.socket}: permission denied\n"
            )
            assert done.returncode == os.EX_NOPERM
    finally:
        shutil.rmtree(folder)


# --- Ctrl-C --------------------------------------------------------------------------------


def test_an_interrupted_bench_says_one_line(ctl: Ctl, tmp_path: Path) -> None:
    words = [*COMMAND, "bench", "--seconds", "60", "--processes", "2", "--folder", str(tmp_path)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=ctl.environment(), start_new_session=True,
    ) as process:  # fmt: skip
        while process.poll() is None and not any(
            log.stat().st_size > 300_000 for log in tmp_path.glob("*/state.db-wal")
        ):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "", "sessionctl: interrupted\n")
    assert list(tmp_path.iterdir()) == []
