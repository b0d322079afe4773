"""How log records look, and where they go."""

import io
import json
import logging
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond import logs
from sessiond.logs import JsonFormat, TextFormat


def _record(
    message: str = "hello", level: int = logging.INFO, error: bool = False, **extra: Any
) -> logging.LogRecord:
    trace = None
    if error:
        try:
            raise ValueError("two\nlines")
        except ValueError:
            trace = sys.exc_info()
    logger = logging.getLogger("sessiond.test")
    return logger.makeRecord(logger.name, level, "f.py", 1, message, (), trace, extra=extra)


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """The root logger, the asyncio logger and the hooks as they were, afterwards."""
    root, aio = logging.getLogger(), logging.getLogger("asyncio")
    handlers, levels = root.handlers[:], (root.level, aio.level)
    hooks = sys.excepthook, threading.excepthook
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(levels[0])
    aio.setLevel(levels[1])
    sys.excepthook, threading.excepthook = hooks


# --- text --------------------------------------------------------------------------------------


def test_a_line_for_people_has_time_level_message_and_facts() -> None:
    line = TextFormat(journal=False).format(_record(seconds=2.5, path="/a b", empty=""))
    time, _, rest = line.partition(" info ")
    assert len(time) == len("2026-01-02 03:04:05.678")
    assert rest.strip() == 'hello seconds=2.5 path="/a b" empty=""'


def test_facts_that_look_like_facts_are_quoted() -> None:
    line = TextFormat(journal=True).format(_record(name_="a=b", quote='say "x"'))
    assert line == '<6>hello name_="a=b" quote="say \\"x\\""'


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, 7),
        (logging.INFO, 6),
        (logging.INFO + 5, 6),
        (logging.WARNING, 4),
        (logging.ERROR, 3),
        (logging.CRITICAL, 2),
        (99, 2),
        (1, 7),
    ],
)
@pytest.mark.parametrize("form", [TextFormat, JsonFormat])
def test_the_journal_gets_priorities(
    form: type[TextFormat | JsonFormat], level: int, priority: int
) -> None:
    assert form(journal=True).format(_record(level=level)).startswith(f"<{priority}>")


def test_every_line_of_a_traceback_has_the_priority() -> None:
    lines = TextFormat(journal=True).format(_record(level=logging.ERROR, error=True)).splitlines()
    assert lines[0] == "<3>hello"
    assert len(lines) > 3
    assert all(line.startswith("<3>  ") for line in lines[1:])


def test_a_traceback_is_indented_for_people() -> None:
    lines = TextFormat(journal=False).format(_record(error=True)).splitlines()
    assert lines[1] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in lines[1:])


@given(st.text(), st.text())
def test_no_text_of_others_starts_a_line_or_moves_the_cursor(message: str, fact: str) -> None:
    line = TextFormat(journal=True).format(_record(message.replace("%", ""), fact=fact))
    assert line.splitlines() == [line] or "\u2028" in line or "\u2029" in line
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in line)
    line.encode()


# --- JSON --------------------------------------------------------------------------------------


def test_json_has_the_facts_as_fields() -> None:
    line = JsonFormat().format(_record("ü\n", seconds=2.5, path=Path("/x")))
    found = json.loads(line)
    assert found.pop("time") > 0
    assert found == {
        "level": "info",
        "logger": "sessiond.test",
        "message": "ü\n",
        "seconds": 2.5,
        "path": "/x",
    }


def test_json_has_the_traceback() -> None:
    assert "ValueError: two\nlines" in json.loads(JsonFormat().format(_record(error=True)))["error"]


@given(st.text(), st.text())
def test_json_is_one_line_that_can_be_written(message: str, fact: str) -> None:
    line = JsonFormat().format(_record(message.replace("%", ""), fact=fact))
    assert "\n" not in line
    json.loads(line.encode())


# --- where they go -----------------------------------------------------------------------------


def test_the_journal_is_recognised_by_its_stream(tmp_path: Path) -> None:
    with open(tmp_path / "stream", "w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        ours = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert logs.goes_to_journal(ours, stream)
        assert not logs.goes_to_journal({"JOURNAL_STREAM": f"{found.st_dev}:1"}, stream)
        assert not logs.goes_to_journal({"JOURNAL_STREAM": "nonsense"}, stream)
        assert not logs.goes_to_journal({}, stream)


def test_a_stream_that_is_no_file_is_no_journal() -> None:
    assert not logs.goes_to_journal({"JOURNAL_STREAM": "1:2"}, io.StringIO())


@pytest.mark.usefixtures("logging_restored")
def test_records_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("warning", "json", {})
    logging.getLogger("sessiond.x").info("not this")
    logging.getLogger("sessiond.x").warning("but this", extra={"number": 1})
    found = json.loads(capsys.readouterr().err)
    assert (found["message"], found["number"]) == ("but this", 1)


@pytest.mark.usefixtures("logging_restored")
def test_a_log_file_is_its_owners_and_may_be_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.start("info", "text", {"JOURNAL_STREAM": "1:2"}, str(path))
    logging.getLogger("sessiond").info("one ü")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.rename(tmp_path / "log.1")
    logging.getLogger("sessiond").info("two")
    assert (tmp_path / "log.1").read_text(encoding="utf-8").endswith("one ü\n")
    assert path.read_text(encoding="utf-8").endswith("two\n")


@pytest.mark.usefixtures("logging_restored")
def test_a_second_start_replaces_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.start("info", "text", {}, str(tmp_path / "log"))
    logs.start("info", "text", {})
    logging.getLogger("sessiond").info("here")
    assert capsys.readouterr().err.count("here") == 1
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.usefixtures("logging_restored")
def test_a_log_file_that_cannot_be_made_changes_nothing(tmp_path: Path) -> None:
    before = logging.getLogger().handlers[:]
    with pytest.raises(FileNotFoundError):
        logs.start("info", "text", {}, str(tmp_path / "none/log"))
    assert logging.getLogger().handlers == before


@pytest.mark.usefixtures("logging_restored")
def test_errors_that_nobody_caught_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("info", "text", {})
    error = ValueError("oh")
    sys.excepthook(ValueError, error, None)
    assert "ValueError: oh" in capsys.readouterr().err

    def fail() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()
    text = capsys.readouterr().err
    assert "uncaught error in thread worker" in text
    assert "ValueError: in a thread" in text
