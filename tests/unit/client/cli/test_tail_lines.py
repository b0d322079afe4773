"""What ``sessionctl tail`` makes of messages and events."""

import io
import json
import time
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from sessiond_client import Event
from sessiond_client.cli import tail_lines
from sessiond_protocol.requests import feed

NOW = time.mktime((2025, 11, 21, 12, 0, 0, 0, 0, -1))
EARLIER = NOW - 10


def message(role: str, content: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "session_id": "s1",
        "role": role,
        "content": content,
        "timestamp": EARLIER,
        "tool_name": None,
        "tool_calls": None,
        "reasoning": None,
        **fields,
    }


def shown(said: dict[str, Any], *, width: int = 80, **options: bool) -> list[str]:
    wanted = {"with_session": True, "full": False, **options}
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(tail_lines.message_lines(said, NOW, width, **wanted))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_short_message_is_one_line() -> None:
    assert shown(message("user", "hi")) == ["11:59:50  s1  user  hi"]
    assert shown(message("user", "hi"), with_session=False) == ["11:59:50  user  hi"]
    assert shown(message("tool", "ok", tool_name="look")) == ["11:59:50  s1  tool look  ok"]
    assert shown(message("assistant")) == ["11:59:50  s1  assistant"]


def test_another_day_is_named() -> None:
    said = message("user", "hi", timestamp=NOW - 86_400)
    assert shown(said) == ["2025-11-20 12:00:00  s1  user  hi"]


def test_several_lines_stand_below() -> None:
    assert shown(message("user", "one\n\n  two\n")) == [
        "11:59:50  s1  user", "  one", "", "    two",
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["word " * 60, "x" * 300, "東京の天気" * 30])
def test_long_contents_are_wrapped_below(content: str) -> None:
    head, *below = shown(message("user", content))
    assert head == "11:59:50  s1  user"
    assert all(line.startswith("  ") and cell_len(line) <= 80 for line in below)
    assert "".join("".join(below).split()) == "".join(content.split())


def test_a_line_that_fits_exactly_stays() -> None:
    room = 80 - len("11:59:50  s1  user  ")
    assert len(shown(message("user", "x" * room))) == 1
    assert len(shown(message("user", "x" * (room + 1)))) == 2


def test_results_of_tools_are_cut_unless_they_are_wanted_whole() -> None:
    said = message("tool", "\n".join(f"line {number}" for number in range(50)))
    assert "--full shows them" in shown(said)[-1]
    assert shown(said, full=True)[-1] == "  line 49"


def test_nothing_steers_the_terminal() -> None:
    [line] = shown(message("us\x1ber", "a\x1b[2Jb", session_id="s\x07", tool_name="t\x1b"))
    assert line == "11:59:50  s␇  us␛er t␛  a␛[2Jb"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event("session_created", "s"), "session s was created"),
        (Event("session_ended", "s", "done"), "session s has ended, done"),
        (Event("session_ended", "s"), "session s has ended"),
        (Event("session_titled", "s", "a\x1bb"), "session s is 'a␛b' now"),
        (Event("session_titled", "s"), "session s has no title now"),
        (Event("session_reopened", "s"), "session s goes on"),
        (Event("session_deleted", "s"), "session s was deleted"),
        (
            Event("messages_replaced", "s", first_id=3, last_id=5),
            "session s has other messages now, #3 to #5",
        ),
        (Event("messages_replaced", "s"), "session s has other messages now"),
        (Event("messages_cleared", "s"), "session s lost all its messages"),
        (Event("session_juggled", "s"), "session s session_juggled"),
        (
            Event("sessions_changed", text=feed.AWAY),
            "the connection was lost: changes to sessions may be missing, no message is",
        ),
        (
            Event("sessions_changed", text=feed.BEHIND),
            "this fell behind: changes to sessions may be missing, no message is",
        ),
        (
            Event("sessions_changed"),
            "this was away: changes to sessions may be missing, no message is",
        ),
        (Event("sessions_changed", text=feed.FOREIGN), ""),
        (
            Event("feed_reset"),
            "stored messages have changed: what stands above may be out of date",
        ),
    ],
)
def test_other_events_are_a_line_or_none(event: Event, text: str) -> None:
    assert tail_lines.remark(event) == text


def test_events_as_objects() -> None:
    said = message("user", [{"type": "text", "text": "hi"}])
    [event] = tail_lines.as_events([said])
    assert (event.kind, event.session_id, event.message) == ("message", "s1", said)
    assert tail_lines.as_object(event) == {"kind": "message", **said}
    assert tail_lines.as_object(Event("session_ended", "s", "done")) == {
        "kind": "session_ended", "session_id": "s", "text": "done",
    }  # fmt: skip
    assert json.dumps(tail_lines.as_object(Event("feed_reset"))) == '{"kind": "feed_reset"}'
