"""A transcript for people: roles coloured, tool calls compact, long results cut."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sessiond_client.cli import output, units
from sessiond_protocol.content import content_text

if TYPE_CHECKING:
    from rich.text import Text

ROLE_STYLES: Final = {
    "user": "bold green",
    "assistant": "bold blue",
    "tool": "bold magenta",
    "system": "bold yellow",
}
CUT_LINES: Final = 12
CUT_CHARACTERS: Final = 1200
CUT_ARGUMENTS: Final = 100

Message = Mapping[str, Any]


def session_facts(session: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What stands above a transcript: names and values, unset ones left out."""
    facts = [
        ("session", output.one_line(str(session["id"]))),
        ("title", output.one_line(str(session["title"] or ""))),
        ("source", output.one_line(str(session["source"]))),
        ("model", output.one_line(str(session["model"] or ""))),
        ("user", output.one_line(str(session["user_id"] or ""))),
        ("parent", output.one_line(str(session["parent_session_id"] or ""))),
        ("started", units.local_time(session["started_at"])),
        ("ended", _end(session)),
        ("messages", _counts(session)),
        ("tokens", _tokens(session)),
        ("cost", _cost(session)),
    ]
    return [(name, value) for name, value in facts if value]


def _end(session: Mapping[str, Any]) -> str:
    if session["ended_at"] is None:
        return ""
    reason = output.one_line(str(session["end_reason"] or ""))
    return units.local_time(session["ended_at"]) + (f", {reason}" if reason else "")


def _counts(session: Mapping[str, Any]) -> str:
    calls = session["tool_call_count"] or 0
    text = units.count(session["message_count"] or 0)
    return f"{text}, {units.plural(calls, 'tool call')}" if calls else text


def _tokens(session: Mapping[str, Any]) -> str:
    names = ("input", "output", "cache_read", "cache_write", "reasoning")
    counts = [(name, session[f"{name}_tokens"] or 0) for name in names]
    return ", ".join(
        f"{units.count(number)} {name.replace('_', ' ')}" for name, number in counts if number
    )


def _cost(session: Mapping[str, Any]) -> str:
    actual, estimated = session["actual_cost_usd"], session["estimated_cost_usd"]
    if actual is not None:
        return f"${actual:,.4f}"
    return f"${estimated:,.4f} estimated" if estimated else ""


def message_text(message: Message, *, full: bool) -> "Text":
    """One message with its heading. Unless ``full``, results of tools and reasoning are cut."""
    text = _heading(message)
    for line, style in body_lines(message, full=full):
        text.append("\n  " + line if line else "\n", style)
    return text


def body_lines(message: Message, *, full: bool) -> Iterator[tuple[str, str]]:
    """What a message says, line by line, each with its style."""
    content = message["content"]
    if message.get("reasoning"):
        for line in _reasoning(str(message["reasoning"]), full=full).split("\n"):
            yield line, "dim italic"
    body = content if isinstance(content, str) else content_text(content)
    if message["role"] == "tool" and not full:
        body = cut(body)
    if body:
        for line in output.printable(body.rstrip("\n")).split("\n"):
            yield line, ""
    for line in (*_media(content), *tool_calls(message["tool_calls"], full=full)):
        yield line, "magenta"


def _heading(message: Message) -> "Text":
    from rich.text import Text

    role = str(message["role"])
    text = Text()
    text.append(output.one_line(role), ROLE_STYLES.get(role, "bold"))
    if message["tool_name"]:
        text.append(f" {output.one_line(str(message['tool_name']))}", "magenta")
    text.append(f"  {units.local_time(message['timestamp'])}  #{message['id']}", "dim")
    return text


def _reasoning(reasoning: str, *, full: bool) -> str:
    if full:
        return "reasoning: " + output.printable(reasoning)
    return f"reasoning: {units.plural(len(reasoning), 'character')}"


def _media(content: Any) -> Iterable[str]:
    """Parts of structured content that are no text, by their types."""
    if isinstance(content, list):
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in (None, "text", "tool_result"):
                yield f"[{output.one_line(str(kind))}]"


def tool_calls(calls: Any, *, full: bool) -> Iterable[str]:
    """``→ name(argument=value)`` for each call; other shapes as they are."""
    if not calls:
        return
    for call in calls if isinstance(calls, list) else [calls]:
        yield "→ " + _call(call, full=full)


def _call(call: Any, *, full: bool) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return _cut_line(json.dumps(call, ensure_ascii=False, default=str), full=full)
    name = output.one_line(str(function.get("name") or "?"))
    return f"{name}({_cut_line(_arguments(function.get('arguments')), full=full)})"


def _arguments(arguments: Any) -> str:
    """``name=value`` pairs; arguments are JSON text by custom, and sometimes not even that."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return str(arguments)
    if not isinstance(arguments, dict):
        return "" if arguments is None else json.dumps(arguments, ensure_ascii=False, default=str)
    return ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in arguments.items()
    )


def _cut_line(text: str, *, full: bool) -> str:
    line = output.one_line(text)
    return line if full or len(line) <= CUT_ARGUMENTS else line[: CUT_ARGUMENTS - 1] + "…"


def cut(text: str) -> str:
    """The beginning of a long text, and how much was left out."""
    lines = text.split("\n")
    kept = "\n".join(lines[:CUT_LINES])[:CUT_CHARACTERS]
    left = len(text) - len(kept)
    if left <= 0:
        return text
    return f"{kept}\n… {units.plural(left, 'more character')}, --full shows them"


def raw_texts(messages: Sequence[Message]) -> Iterable[str]:
    """The contents alone, as stored."""
    for message in messages:
        content = message["content"]
        yield content if isinstance(content, str) else content_text(content)
