"""What ``sessionctl tail`` prints of messages and events: a line where one is enough."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sessiond_client import Event
from sessiond_client.cli import output, transcript, units
from sessiond_protocol.requests import feed

if TYPE_CHECKING:
    from rich.console import RenderableType

_RESET: Final = "stored messages have changed: what stands above may be out of date"
_MISSED: Final = "changes to sessions may be missing, no message is"
_WHY: Final = {feed.AWAY: "the connection was lost", feed.BEHIND: "this fell behind"}
_OF_A_SESSION: Final = {
    "session_created": "was created",
    "session_reopened": "goes on",
    "session_deleted": "was deleted",
    "messages_cleared": "lost all its messages",
}


def message_lines(
    message: Mapping[str, Any], now: float, width: int, *, with_session: bool, full: bool
) -> "RenderableType":
    """Time, session and role, then the contents: beside them if they fit, else below."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(units.clock_time(message["timestamp"], now), "dim")
    if with_session:
        head.append("  " + output.one_line(str(message["session_id"])), "cyan")
    role = str(message["role"])
    head.append("  " + output.one_line(role), transcript.ROLE_STYLES.get(role, "bold"))
    if message["tool_name"]:
        head.append(f" {output.one_line(str(message['tool_name']))}", "magenta")
    lines = [Text(*line) for line in transcript.body_lines(message, full=full)]
    if not lines:
        return head
    if len(lines) == 1 and head.cell_len + 2 + lines[0].cell_len <= width:
        return Text.assemble(head, "  ", lines[0], no_wrap=True)
    body = Text("\n", overflow="fold").join(lines)
    return Group(head, Padding(body, (0, 0, 0, 2), expand=False))


def remark(event: Event) -> str:
    """One line about an event that is no message; empty where it is not worth one."""
    if event.kind == "feed_reset":
        return _RESET
    if event.kind == "sessions_changed":
        # Another program's messages are fed as all others; this comes with each of its commits.
        if event.text == feed.FOREIGN:
            return ""
        return f"{_WHY.get(event.text or '', 'this was away')}: {_MISSED}"
    session = f"session {output.one_line(str(event.session_id))}"
    text = output.one_line(event.text or "")
    match event.kind:
        case "session_ended":
            return f"{session} has ended" + (f", {text}" if text else "")
        case "session_titled":
            return f"{session} is {text!r} now" if text else f"{session} has no title now"
        case "messages_replaced":
            return f"{session} has other messages now{_numbers(event)}"
    return f"{session} {_OF_A_SESSION.get(event.kind, output.one_line(event.kind))}"


def _numbers(event: Event) -> str:
    return "" if event.first_id is None else f", #{event.first_id} to #{event.last_id}"


def as_object(event: Event) -> dict[str, Any]:
    """An event for ``--json``: its ``kind``, then a message's columns or what else it says."""
    if event.message is not None:
        return {"kind": event.kind, **event.message}
    told = msgspec.structs.asdict(event)
    return {name: value for name, value in told.items() if value is not None}


def as_events(messages: Iterable[dict[str, Any]]) -> Iterable[Event]:
    """Stored messages as the feed would tell of them."""
    return (Event("message", message["session_id"], message=message) for message in messages)
