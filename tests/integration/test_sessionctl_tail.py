"""``sessionctl tail`` with a real daemon: the last messages, then each as it is committed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rich.cells import cell_len

from sessiond_client import SessionDB
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


@contextmanager
def following(ctl: Ctl, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """``sessionctl tail`` while it runs, its output in a pipe."""
    with subprocess.Popen(
        [*COMMAND, "tail", "--follow", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ctl.environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    """The next line that it prints (pytest's own timeout bounds the wait)."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(each) for each in text.splitlines()]


def test_the_last_messages_of_all_sessions(ctl: Ctl) -> None:
    lines = ctl.out("tail", "-n", "2").splitlines()
    assert [each.split()[1:3] for each in lines] == [[JAPANESE, "user"], [UNTITLED, "user"]]
    assert lines[1].endswith("A first message A first message")
    told = objects(ctl.out("tail", "--json"))
    assert [each["session_id"] for each in told] == [FIRST] * 3 + [JAPANESE, UNTITLED]
    assert {each["kind"] for each in told} == {"message"}


@pytest.mark.parametrize("name", ["20250101", "Docker for beginners", FIRST])
def test_a_session_is_named_as_for_show(ctl: Ctl, name: str) -> None:
    told = objects(ctl.out("tail", name, "-n", "2", "--json"))
    assert [each["role"] for each in told] == ["assistant", "tool"]
    assert told == [
        {"kind": "message", **each} for each in ctl.json("show", FIRST, "--last", "2")["messages"]
    ]
    assert FIRST not in ctl.out("tail", name)
    assert ctl.out("tail", name, "-n", "0") == ""


def test_more_than_a_page(own: Ctl) -> None:
    with SessionDB(**own.daemon.arguments) as db:
        db.append_messages(FIRST, [{"role": "user", "content": f"n {n}"} for n in range(450)])
        db.append_message(JAPANESE, "user", "between")
        db.append_messages(FIRST, [{"role": "user", "content": f"m {n}"} for n in range(50)])
    told = [each["content"] for each in objects(own.out("tail", FIRST, "-n", "480", "--json"))]
    assert told == [f"n {n}" for n in range(20, 450)] + [f"m {n}" for n in range(50)]
    of_all = objects(own.out("tail", "-n", "52", "--json"))
    assert [each["content"] for each in of_all][:3] == ["n 449", "between", "m 0"]


def test_a_terminal_gets_colours_and_80_columns(ctl: Ctl) -> None:
    seen = ctl.at_terminal("tail")
    assert seen.status == 0
    assert max(map(cell_len, seen.lines)) <= 80
    assert "\x1b[1;32m  user" in seen.raw
    plain = ctl.at_terminal("tail", NO_COLOR="1").raw
    assert "32m" not in plain
    assert "\x1b" not in ctl.out("tail")


def test_what_is_committed_follows_and_ctrl_c_is_quiet(own: Ctl) -> None:
    with SessionDB(**own.daemon.arguments) as db, following(own, "-n", "1") as process:
        assert UNTITLED in line(process)
        db.append_message(FIRST, "user", "live\nand more")
        assert line(process).split()[1:] == [FIRST, "user"]
        assert [line(process), line(process)] == ["  live", "  and more"]
        db.set_session_title(UNTITLED, "A title")
        assert line(process) == f"session {UNTITLED} is 'A title' now"
        db.delete_session(UNTITLED)
        assert line(process) == f"session {UNTITLED} was deleted"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (130, "", "")


def test_one_session_follows_alone_as_json(own: Ctl) -> None:
    with (
        SessionDB(**own.daemon.arguments) as db,
        following(own, "Docker for beginners", "-n", "1", "--json") as process,
    ):
        assert json.loads(line(process))["role"] == "tool"
        db.append_message(UNTITLED, "user", "for others")
        parts = [{"type": "text", "text": "東京"}]
        message_id = db.append_message(FIRST, "user", parts)
        told = json.loads(line(process))
        assert (told["kind"], told["id"], told["content"]) == ("message", message_id, parts)
        db.end_session(JAPANESE, "done")
        db.reopen_session(FIRST)
        assert json.loads(line(process)) == {"kind": "session_reopened", "session_id": FIRST}


def test_it_goes_on_when_the_daemon_was_killed(own: Ctl) -> None:
    with following(own, FIRST, "-n", "1", "--json") as process:
        line(process)
        with SessionDB(**own.daemon.arguments) as db:
            ids = [db.append_message(FIRST, "user", "before")]
            assert json.loads(line(process))["id"] == ids[0]
        own.daemon.kill()
        # Whoever is first starts another one; its settings are those of the environment.
        with SessionDB(own.daemon.database, socket=own.daemon.socket) as db:
            pid = db.get_stats()["pid"]
            try:
                ids += [db.append_message(FIRST, "user", str(number)) for number in range(5)]
                told = [json.loads(line(process)) for _ in range(6)]
            finally:
                os.kill(pid, signal.SIGTERM)
    assert [each["id"] for each in told if each["kind"] == "message"] == ids[1:]
    assert {"kind": "sessions_changed", "text": "away"} in told


def test_a_pipe_that_closes_ends_it_before_the_next_line(own: Ctl) -> None:
    with following(own, "-n", "1") as process:
        line(process)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_only_new_messages(own: Ctl) -> None:
    with (
        SessionDB(**own.daemon.arguments) as db,
        following(own, "-n", "0", "--json") as process,
    ):
        deadline = time.monotonic() + PATIENCE
        while not db.get_stats()["watchers"]:
            assert time.monotonic() < deadline
        message_id = db.append_message(FIRST, "user", "new")
        told = [json.loads(line(process))]
        while told[-1]["kind"] != "message":
            told.append(json.loads(line(process)))
        assert told[-1]["id"] == message_id
