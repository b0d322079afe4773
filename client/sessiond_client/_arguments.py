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
    cleaned = text(value, name)
    if cleaned is None:
        raise ValueError(f"{name} must be text, not None")
    return cleaned


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


def message_fields(
    role: str,
    content: Any,
    tool_name: str | None,
    tool_calls: Any,
    tool_call_id: str | None,
    token_count: int | None,
    finish_reason: str | None,
    reasoning: str | None,
    reasoning_details: Any,
    codex_reasoning_items: Any,
    timestamp: float | None,
    message_key: str | None,
) -> dict[str, Any]:
    """The arguments of ``append_message`` as one mapping."""
    return {
        "role": role,
        "content": content,
        "tool_name": tool_name,
        "tool_calls": tool_calls,
        "tool_call_id": tool_call_id,
        "token_count": token_count,
        "finish_reason": finish_reason,
        "reasoning": reasoning,
        "reasoning_details": reasoning_details,
        "codex_reasoning_items": codex_reasoning_items,
        "timestamp": timestamp,
        "message_key": message_key,
    }


def stored_message(fields: Mapping[str, Any]) -> message.Message:
    """A message as it is sent, from the arguments of ``append_message``."""
    unknown = fields.keys() - MESSAGE_FIELDS
    if unknown:
        raise ValueError(
            f"unknown message field {min(unknown)!r}, allowed: {', '.join(sorted(MESSAGE_FIELDS))}"
        )
    column, value, _ = values.split_content(fields.get("content"))
    timestamp = fields.get("timestamp")
    token_count = fields.get("token_count")
    tool_calls = fields.get("tool_calls")
    return message.Message(
        role=required(fields.get("role") or "unknown", "role"),
        timestamp=time.time() if timestamp is None else values.check_real(timestamp, "timestamp"),
        content=column,
        content_value=value,
        tool_name=text(fields.get("tool_name"), "tool_name"),
        tool_calls=values.encode_json(tool_calls, "tool_calls"),
        tool_call_count=values.count_tool_calls(tool_calls),
        tool_call_id=text(fields.get("tool_call_id"), "tool_call_id"),
        token_count=None
        if token_count is None
        else values.check_integer(token_count, "token_count"),
        finish_reason=text(fields.get("finish_reason"), "finish_reason"),
        reasoning=text(fields.get("reasoning"), "reasoning"),
        reasoning_details=values.encode_json(fields.get("reasoning_details"), "reasoning_details"),
        codex_reasoning_items=values.encode_json(
            fields.get("codex_reasoning_items"), "codex_reasoning_items"
        ),
        message_key=text(fields.get("message_key"), "message_key"),
    )


MESSAGE_FIELDS = frozenset(
    {
        "role",
        "content",
        "tool_name",
        "tool_calls",
        "tool_call_id",
        "token_count",
        "finish_reason",
        "reasoning",
        "reasoning_details",
        "codex_reasoning_items",
        "timestamp",
        "message_key",
    }
)


def stored_messages(messages: Sequence[Mapping[str, Any]]) -> list[message.Message]:
    """Messages as they are sent; an error names the place of the one that is bad."""
    stored = []
    for index, fields in enumerate(messages):
        if not isinstance(fields, Mapping):
            kind = type(fields).__name__
            raise ValueError(f"messages[{index}] must be a mapping, not {kind}")
        try:
            stored.append(stored_message(fields))
        except ValueError as error:
            raise ValueError(f"messages[{index}]: {error}") from error
    return stored
