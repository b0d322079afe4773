"""Arguments as they are stored: checked, cleaned, encoded. Bad ones are a ``ValueError`` that
names them."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sessiond_protocol import content as values
from sessiond_protocol.requests import message


def text(value: str | None, name: str) -> str | None:
    """Text as it can be stored, or None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {type(value).__name__}")
    return values.clean_text(value)


def required(value: str, name: str) -> str:
    """Text as it can be stored."""
    if not isinstance(value, str):
        kind = "None" if value is None else type(value).__name__
        raise ValueError(f"{name} must be text, not {kind}")
    return values.clean_text(value)


def texts(value: Iterable[str] | None, name: str) -> list[str] | None:
    """A list of texts, or None."""
    if value is None:
        return None
    if isinstance(value, str):
        raise ValueError(f"{name} must be a list of texts, not one text")
    return [required(each, f"{name}[{index}]") for index, each in enumerate(value)]


def bound(value: int, name: str) -> int:
    """A limit or an offset: never negative."""
    return values.check_integer(value, name, minimum=0)


def token_fields(counts: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``update_token_counts`` by name."""
    checked: dict[str, Any] = {}
    for name, value in counts.items():
        if name.endswith("_tokens"):
            checked[name] = values.check_integer(value or 0, name)
        elif name.endswith("_usd"):
            checked[name] = None if value is None else values.check_real(value, name)
        else:
            checked[name] = text(value, name)
    return checked


def stored_message(
    role: str | None = None,
    content: Any = None,
    tool_name: str | None = None,
    tool_calls: Any = None,
    tool_call_id: str | None = None,
    token_count: int | None = None,
    finish_reason: str | None = None,
    reasoning: str | None = None,
    reasoning_details: Any = None,
    codex_reasoning_items: Any = None,
    timestamp: float | None = None,
    message_key: str | None = None,
) -> message.Message:
    """A message as it is sent, from the arguments of ``append_message`` in their order."""
    value = None
    if content is not None:
        content, value, _ = values.split_content(content)
    # Most are None: whatever is not here costs no call.
    return message.Message(
        role=required(role or "unknown", "role"),
        timestamp=time.time() if timestamp is None else values.check_real(timestamp, "timestamp"),
        content=content,
        content_value=value,
        tool_name=None if tool_name is None else text(tool_name, "tool_name"),
        tool_calls=values.encode_json(tool_calls, "tool_calls") if tool_calls else None,
        tool_call_count=values.count_tool_calls(tool_calls) if tool_calls else 0,
        tool_call_id=None if tool_call_id is None else text(tool_call_id, "tool_call_id"),
        token_count=None
        if token_count is None
        else values.check_integer(token_count, "token_count"),
        finish_reason=None if finish_reason is None else text(finish_reason, "finish_reason"),
        reasoning=None if reasoning is None else text(reasoning, "reasoning"),
        reasoning_details=values.encode_json(reasoning_details, "reasoning_details")
        if reasoning_details
        else None,
        codex_reasoning_items=values.encode_json(codex_reasoning_items, "codex_reasoning_items")
        if codex_reasoning_items
        else None,
        message_key=None if message_key is None else text(message_key, "message_key"),
    )


MESSAGE_FIELDS = frozenset(stored_message.__annotations__) - {"return"}


def message_of(fields: Mapping[str, Any]) -> message.Message:
    """A message as it is sent, from a mapping of the arguments of ``append_message``."""
    unknown = fields.keys() - MESSAGE_FIELDS
    if unknown:
        raise ValueError(
            f"unknown message field {min(unknown)!r}, allowed: {', '.join(sorted(MESSAGE_FIELDS))}"
        )
    return stored_message(**fields)


def stored_messages(messages: Sequence[Mapping[str, Any]]) -> list[message.Message]:
    """Messages as they are sent; an error names the place of the one that is bad."""
    stored = []
    for index, fields in enumerate(messages):
        if not isinstance(fields, Mapping):
            kind = type(fields).__name__
            raise ValueError(f"messages[{index}] must be a mapping, not {kind}")
        try:
            stored.append(message_of(fields))
        except ValueError as error:
            raise ValueError(f"messages[{index}]: {error}") from error
    return stored
