"""``sessionctl`` export and import, with a real daemon."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import SessionDB
from tests.support.daemon import running
from tests.support.sessionctl import (
    FIRST,
    JAPANESE,
    Ctl,
    ctl,
    own,
)

__all__ = ["ctl", "own"]


def without_ids(lines: str) -> dict[str, Any]:
    """Sessions of an export by id, without the ids that a store gives its messages."""
    sessions = {each["id"]: each for each in map(json.loads, lines.splitlines())}
    for session in sessions.values():
        for message in session["messages"]:
            del message["id"]
    return sessions


@pytest.fixture
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ctl]:
    """A daemon on an empty database."""
    for daemon in running(tmp_path_factory.mktemp("empty")):
        yield Ctl(daemon)


def test_what_was_exported_can_be_imported(ctl: Ctl, empty: Ctl) -> None:
    exported = ctl.out("export")
    assert empty.run("import", "-", given=exported).stdout == (
        "3 sessions with 5 messages imported\n"
    )
    assert without_ids(empty.out("export")) == without_ids(exported)
    again = json.loads(empty.run("import", "-", "--json", given=exported).stdout)
    assert (again["imported"], again["present"], again["failed"]) == (0, 3, 0)
    assert empty.json("stats")["messages"] == 5


def test_structured_content_comes_back_as_it_was(own: Ctl, empty: Ctl) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}]
    with SessionDB(**own.daemon.arguments) as db:
        db.create_session("s", "cli", parent_session_id=FIRST, model_config={"a": [1]})
        db.append_message("s", "user", parts)
    exported = own.out("export")
    empty.run("import", "-", given=exported)
    assert without_ids(empty.out("export")) == without_ids(exported)
    assert empty.json("show", "s")["parent_session_id"] == FIRST
    assert empty.json("show", "s")["messages"][0]["content"] == parts


def test_export_takes_names_and_sources(ctl: Ctl, tmp_path: Path) -> None:
    assert list(without_ids(ctl.out("export", "20250101", "Docker for beginners"))) == [FIRST]
    assert list(without_ids(ctl.out("export", "--source", "cli"))) == [JAPANESE]
    target = tmp_path / "a.jsonl"
    assert ctl.out("export", "-o", str(target)) == f"3 sessions exported to {target}\n"
    assert target.read_text("utf-8") == ctl.out("export")
    ctl.run("export", "-o", str(target), status=os.EX_USAGE)
    ctl.out("export", "-o", str(target), "--yes")
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_shorter_copy_is_told_and_replaced_on_demand(own: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    exported = json.loads(own.out("export", FIRST))
    exported["messages"].append({"role": "user", "content": "one more", "timestamp": 5})
    file.write_text(json.dumps(exported), "utf-8")
    said = own.run("import", str(file), status=os.EX_DATAERR).stderr
    assert f"session {FIRST} is there with 3 messages, the file has 4; --replace" in said
    own.out("import", "--replace", str(file))
    stored = own.json("show", FIRST)
    assert stored["messages"][-1]["content"] == "one more"
    assert stored["message_count"] == 4


def test_a_title_that_is_taken_gets_a_number(own: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    other = {"id": "other", "title": "Docker for beginners", "messages": [{"role": "user"}]}
    file.write_text(json.dumps(other) + "\n", "utf-8")
    done = own.run("import", str(file), status=os.EX_DATAERR)
    assert "it is 'Docker for beginners #2' now" in done.stderr
    assert done.stdout == "1 session with 1 message imported\n"
    assert own.json("show", "other")["title"] == "Docker for beginners #2"


def test_broken_lines_are_named_and_the_rest_is_stored(empty: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    good = {"id": "good", "messages": []}
    bad = {"id": "bad", "messages": [{"role": "user", "timestamp": "yesterday"}]}
    orphan = {"id": "orphan", "parent_session_id": "nobody", "messages": []}
    lines = [json.dumps(good), "{", json.dumps(bad), "", json.dumps(orphan)]
    file.write_text("\n".join(lines), "utf-8")
    done = empty.run("import", str(file), status=os.EX_DATAERR)
    assert done.stdout == "2 sessions with 0 messages imported, 1 failed\n"
    first, second, third = done.stderr.splitlines()
    assert first.startswith(f"sessionctl: {file}: line 2 is skipped, not JSON: ")
    assert second.startswith(f"sessionctl: {file}: session 2 is not imported: session bad: ")
    assert third == "sessionctl: session orphan continues nobody, which is not there"


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [("a.jsonl", '{"x": 1}\n', os.EX_DATAERR), ("a.jsonl", "", 0), ("a.txt", "\0\n", 65)],
)
def test_a_file_that_is_something_else(
    empty: Ctl, tmp_path: Path, name: str, content: str, status: int
) -> None:
    file = tmp_path / name
    file.write_text(content, "utf-8")
    empty.run("import", str(file), status=status)


def test_a_long_session_is_imported_in_parts(empty: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    text = "x" * 1_000_000
    messages = [{"role": "user", "content": f"{number} {text}"} for number in range(7)]
    session = {"id": "long", "title": "long one", "ended_at": 5.0, "messages": messages}
    file.write_text(json.dumps(session), "utf-8")
    assert empty.out("import", str(file)) == "1 session with 7 messages imported\n"
    stored = empty.json("show", "long")
    assert [message["content"] for message in stored["messages"]] == [
        message["content"] for message in messages
    ]
    assert (stored["title"], stored["ended_at"]) == ("long one", 5.0)


LEGACY = "20240101_000000_abcdef12"


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    """A gateway's directory as older programs left it."""
    folder = tmp_path / "sessions"
    folder.mkdir()
    key = "agent:main:telegram:dm:42"
    entry = {
        "session_key": key,
        "session_id": LEGACY,
        "created_at": "2024-01-01T00:00:00",
        "updated_at": "2024-01-02T00:00:00",
        "platform": "telegram",
        "origin": {"platform": "telegram", "chat_id": "42", "user_id": "u42"},
        "input_tokens": 5,
    }
    (folder / "sessions.json").write_text(json.dumps({key: entry}), "utf-8")
    lines: list[dict[str, Any]] = [
        {"role": "session_meta", "model": "m1", "platform": "telegram"},
        {"role": "user", "content": "hello", "timestamp": "2024-01-01T00:00:01"},
        {"role": "assistant", "content": "hi", "reasoning": "polite"},
    ]
    (folder / f"{LEGACY}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    (folder / "bare.jsonl").write_text('{"role": "user", "content": "alone"}\n', "utf-8")
    return folder


def test_a_gateways_directory_is_imported_and_written_again(
    empty: Ctl, legacy: Path, tmp_path: Path
) -> None:
    assert empty.out("import", str(legacy)) == (
        "2 sessions with 3 messages imported, 1 session key taken over\n"
    )
    stored = empty.json("show", LEGACY)
    assert (stored["source"], stored["user_id"], stored["model"]) == ("telegram", "u42", "m1")
    assert (stored["input_tokens"], stored["message_count"]) == (5, 2)
    assert stored["messages"][1]["reasoning"] == "polite"
    copy = tmp_path / "copy"
    empty.out("export", "--transcripts", str(copy))
    lines = (copy / f"{LEGACY}.jsonl").read_text("utf-8").splitlines()
    chat = [json.loads(line) for line in lines]
    assert [(each["role"], each["content"]) for each in chat] == [
        ("user", "hello"), ("assistant", "hi"),
    ]  # fmt: skip
    [entry] = json.loads((copy / "sessions.json").read_text("utf-8")).values()
    assert (entry["session_id"], entry["updated_at"]) == (LEGACY, "2024-01-02T00:00:00")
    empty.run("export", "--transcripts", str(copy), status=os.EX_USAGE)


def test_one_transcript_is_a_session_named_like_the_file(empty: Ctl, legacy: Path) -> None:
    assert empty.out("import", str(legacy / "bare.jsonl")) == (
        "1 session with 1 message imported\n"
    )
    assert empty.json("show", "bare")["messages"][0]["content"] == "alone"


def test_a_directory_without_sessions(empty: Ctl, tmp_path: Path) -> None:
    said = empty.complaint("import", str(tmp_path), status=os.EX_NOINPUT)
    assert "has neither transcripts (*.jsonl) nor a sessions.json" in said


def test_import_makes_the_database(tmp_path: Path, ctl: Ctl, legacy: Path) -> None:
    database = tmp_path / "new.db"
    environment = {
        "SESSIOND_DATABASE": str(database),
        "SESSIOND_SOCKET": str(tmp_path / "sock"),
        "XDG_STATE_HOME": str(tmp_path / "logs"),
    }
    try:
        assert "2 sessions" in ctl.out("import", str(legacy), **environment)
    finally:
        os.kill(json.loads(ctl.out("status", "--json", **environment))["pid"], 15)
