"""From raw rows to what callers see. Pure, and the same for rows of either read path.

A raw message row holds every column of ``messages`` as stored, and ``content_value`` and
``content_hash`` from ``sessiond_content`` (``None``, or absent, when there is no structure).
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sessiond_protocol.content import INLINE_JSON, text_hash
from sessiond_protocol.schema import MESSAGE_COLUMN_NAMES

JSON_COLUMNS: Final = ("tool_calls", "reasoning_details", "codex_reasoning_items")

_CHAT_FIELDS: Final = ("tool_call_id", "tool_calls", "tool_name")
_ASSISTANT_FIELDS: Final = ("reasoning", "reasoning_details", "codex_reasoning_items")


def decode_json(text: Any) -> Any:
    """The value of a JSON column; whatever is not JSON text comes back as stored.

    ``NaN`` and the infinities are read: Python programs have written them.
    """
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def decode_content(text: Any, value: str | None, value_hash: bytes | None) -> Any:
    """Content as it was given: structured if its structure is stored and still valid.

    ``text`` is the column, ``value`` and ``value_hash`` the row of ``sessiond_content``. A text
    that has changed since wins over the structure.
    """
    if not isinstance(text, str):
        return text
    if value is not None and value_hash == text_hash(text):
        return decode_json(value)
    if text.startswith(INLINE_JSON):
        try:
            return json.loads(text[len(INLINE_JSON) :])
        except (ValueError, RecursionError):
            return text
    return text


def decode_message(row: Mapping[str, Any]) -> dict[str, Any]:
    """A message with exactly the columns of ``messages``, in their order, decoded."""
    message = {name: row[name] for name in MESSAGE_COLUMN_NAMES}
    message["content"] = decode_content(
        row["content"], row.get("content_value"), row.get("content_hash")
    )
    for name in JSON_COLUMNS:
        message[name] = decode_json(row[name])
    return message


def decode_session(row: Mapping[str, Any]) -> dict[str, Any]:
    """A session as callers see it: every column as stored; ``model_config`` stays JSON text.

    What a list adds (``preview``, ``last_active``) stays in place.
    """
    return dict(row)


def as_conversation(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chat dicts in the order of ``rows``.

    Always ``role`` and ``content``; tool fields when not empty; for an assistant's messages its
    reasoning fields when not empty.
    """
    return [_chat_message(decode_message(row)) for row in rows]


def _chat_message(message: Mapping[str, Any]) -> dict[str, Any]:
    chat = {"role": message["role"], "content": message["content"]}
    assistant = message["role"] == "assistant"
    fields = _CHAT_FIELDS + _ASSISTANT_FIELDS if assistant else _CHAT_FIELDS
    chat.update((name, message[name]) for name in fields if message[name])
    return chat
