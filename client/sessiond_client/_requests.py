"""From a call's arguments to its request, and from a raw result to what the caller gets.

One generator per call: it yields requests and receives their results; the blocking and the
asyncio client drive the same generators. Bad arguments raise ``ValueError`` that names them.
"""

import secrets
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from sessiond_protocol import content as values
from sessiond_protocol import rows
from sessiond_protocol.requests import Request, message, server, session
from sessiond_protocol.titles import sanitize_title

T = TypeVar("T")
Plan = Generator[Request[Any], Any, T]
Dict = dict[str, Any]

_encode = msgspec.msgpack.Encoder().encode

PAGE = 1000
PRUNE_SLICE = 200


def _text(value: str | None, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {type(value).__name__}")
    return values.clean_text(value)


def _required(value: str, name: str) -> str:
    text = _text(value, name)
    if text is None:
        raise TypeError(f"{name} must be text, not None")
    return text


def _texts(value: Iterable[str] | None, name: str) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        raise TypeError(f"{name} must be a list of texts, not one text")
    return [_required(each, f"{name}[{index}]") for index, each in enumerate(value)]


def _bound(value: int, name: str) -> int:
    return values.check_integer(value, name, minimum=0)


def _real(value: float | None, name: str) -> float | None:
    return None if value is None else values.check_real(value, name)


# --- sessions ------------------------------------------------------------------------------


def create_session(
    session_id: str,
    source: str,
    model: str | None,
    model_config: Mapping[str, Any] | None,
    system_prompt: str | None,
    user_id: str | None,
    parent_session_id: str | None,
) -> Plan[str]:
    stored: str = yield session.SessionCreate(
        session_id=_required(session_id, "session_id"),
        source=_required(source, "source"),
        started_at=time.time(),
        model=_text(model, "model"),
        model_config=values.encode_json(model_config, "model_config"),
        system_prompt=_text(system_prompt, "system_prompt"),
        user_id=_text(user_id, "user_id"),
        parent_session_id=_text(parent_session_id, "parent_session_id"),
    )
    return stored


def ensure_session(session_id: str, source: str, model: str | None) -> Plan[None]:
    yield session.SessionEnsure(
        session_id=_required(session_id, "session_id"),
        source=_required(source, "source"),
        model=_text(model, "model"),
        started_at=time.time(),
    )


def end_session(session_id: str, end_reason: str | None) -> Plan[None]:
    yield session.SessionEnd(
        session_id=_required(session_id, "session_id"),
        end_reason=_text(end_reason, "end_reason"),
        ended_at=time.time(),
    )


def reopen_session(session_id: str) -> Plan[None]:
    yield session.SessionReopen(session_id=_required(session_id, "session_id"))


def update_system_prompt(session_id: str, system_prompt: str | None) -> Plan[None]:
    yield session.SessionSetSystemPrompt(
        session_id=_required(session_id, "session_id"),
        system_prompt=_text(system_prompt, "system_prompt"),
    )


def get_session(session_id: str) -> Plan[Dict | None]:
    row = yield session.SessionGet(session_id=_required(session_id, "session_id"))
    return None if row is None else rows.decode_session(row)


def resolve_session_id(session_id_or_prefix: str) -> Plan[str | None]:
    found: str | None = yield session.SessionResolve(
        session_id_or_prefix=_required(session_id_or_prefix, "session_id_or_prefix")
    )
    return found


def delete_session(session_id: str) -> Plan[bool]:
    existed: bool = yield session.SessionDelete(session_id=_required(session_id, "session_id"))
    return existed


def prune_sessions(older_than_days: float, source: str | None) -> Plan[int]:
    before = time.time() - values.check_real(older_than_days, "older_than_days") * 86_400
    wanted = _text(source, "source")
    total = 0
    while True:
        deleted: int = yield session.SessionPruneSlice(
            before=before, source=wanted, limit=PRUNE_SLICE
        )
        total += deleted
        if not deleted:
            return total


def update_token_counts(session_id: str, counts: Mapping[str, Any], absolute: bool) -> Plan[None]:
    yield token_request(session_id, counts, absolute)


def token_request(
    session_id: str, counts: Mapping[str, Any], absolute: bool
) -> session.SessionUpdateTokens:
    checked: Dict = {}
    for name, value in counts.items():
        if name.endswith("_tokens"):
            checked[name] = values.check_integer(value or 0, name)
        elif name.endswith("_usd"):
            checked[name] = _real(value, name)
        else:
            checked[name] = _text(value, name)
    return session.SessionUpdateTokens(
        session_id=_required(session_id, "session_id"),
        at=time.time(),
        absolute=absolute,
        **checked,
    )


# --- titles --------------------------------------------------------------------------------


def set_session_title(session_id: str, title: str | None) -> Plan[bool]:
    changed: bool = yield session.SessionSetTitle(
        session_id=_required(session_id, "session_id"),
        title=sanitize_title(_text(title, "title")),
    )
    return changed


def get_session_title(session_id: str) -> Plan[str | None]:
    title: str | None = yield session.SessionTitle(session_id=_required(session_id, "session_id"))
    return title


def get_session_by_title(title: str) -> Plan[Dict | None]:
    row = yield session.SessionByTitle(title=_required(title, "title"))
    return None if row is None else rows.decode_session(row)


def resolve_session_by_title(title: str) -> Plan[str | None]:
    found: str | None = yield session.SessionResolveTitle(title=_required(title, "title"))
    return found


def get_next_title_in_lineage(base_title: str) -> Plan[str]:
    title: str = yield session.SessionNextTitle(base_title=_required(base_title, "base_title"))
    return title


# --- messages ------------------------------------------------------------------------------


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
) -> Dict:
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
    unknown = fields.keys() - _MESSAGE_FIELDS
    if unknown:
        raise ValueError(
            f"unknown message field {min(unknown)!r}, allowed: {', '.join(sorted(_MESSAGE_FIELDS))}"
        )
    text, value, _ = values.split_content(fields.get("content"))
    timestamp = fields.get("timestamp")
    token_count = fields.get("token_count")
    tool_calls = fields.get("tool_calls")
    return message.Message(
        role=_required(fields.get("role") or "unknown", "role"),
        timestamp=time.time() if timestamp is None else values.check_real(timestamp, "timestamp"),
        content=text,
        content_value=value,
        tool_name=_text(fields.get("tool_name"), "tool_name"),
        tool_calls=values.encode_json(tool_calls, "tool_calls"),
        tool_call_count=values.count_tool_calls(tool_calls),
        tool_call_id=_text(fields.get("tool_call_id"), "tool_call_id"),
        token_count=None
        if token_count is None
        else values.check_integer(token_count, "token_count"),
        finish_reason=_text(fields.get("finish_reason"), "finish_reason"),
        reasoning=_text(fields.get("reasoning"), "reasoning"),
        reasoning_details=values.encode_json(fields.get("reasoning_details"), "reasoning_details"),
        codex_reasoning_items=values.encode_json(
            fields.get("codex_reasoning_items"), "codex_reasoning_items"
        ),
        message_key=_text(fields.get("message_key"), "message_key"),
    )


_MESSAGE_FIELDS = frozenset(
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


def _stored_messages(messages: Sequence[Mapping[str, Any]]) -> list[message.Message]:
    stored = []
    for index, fields in enumerate(messages):
        try:
            stored.append(stored_message(fields))
        except (TypeError, ValueError) as error:
            raise type(error)(f"messages[{index}]: {error}") from error
    return stored


def append_request(session_id: str, fields: Mapping[str, Any]) -> message.MessageAppend:
    return message.MessageAppend(
        session_id=_required(session_id, "session_id"), message=stored_message(fields)
    )


def append_message(session_id: str, fields: Mapping[str, Any]) -> Plan[int]:
    message_id: int = yield append_request(session_id, fields)
    return message_id


def append_messages(session_id: str, messages: Sequence[Mapping[str, Any]]) -> Plan[list[int]]:
    ids: list[int] = yield message.MessageAppendMany(
        session_id=_required(session_id, "session_id"), messages=_stored_messages(messages)
    )
    return ids


def replace_messages(session_id: str, messages: Sequence[Mapping[str, Any]]) -> Plan[int]:
    stored: int = yield message.MessageReplace(
        session_id=_required(session_id, "session_id"), messages=_stored_messages(messages)
    )
    return stored


def clear_messages(session_id: str) -> Plan[None]:
    yield message.MessageClear(session_id=_required(session_id, "session_id"))


def raw_messages(
    session_id: str, limit: int | None, offset: int, *, active_only: bool
) -> Plan[list[Dict]]:
    """Every row of a transcript, page by page; no snapshot is held between two pages."""
    wanted = None if limit is None else _bound(limit, "limit")
    skip = _bound(offset, "offset")
    name = _required(session_id, "session_id")
    found: list[Dict] = []
    after = 0
    while wanted is None or len(found) < wanted:
        size = PAGE if wanted is None else min(PAGE, wanted - len(found))
        page: message.Page = yield message.MessagePage(
            session_id=name, after_id=after, limit=size, offset=skip, active_only=active_only
        )
        found += page.rows
        if not page.more or not page.rows:
            break
        after, skip = page.rows[-1]["id"], 0
    return found


def get_messages(session_id: str, limit: int | None, offset: int) -> Plan[list[Dict]]:
    raw = yield from raw_messages(session_id, limit, offset, active_only=False)
    return [rows.decode_message(row) for row in raw]


def get_messages_as_conversation(session_id: str) -> Plan[list[Dict]]:
    raw = yield from raw_messages(session_id, None, 0, active_only=True)
    return rows.as_conversation(raw)


def message_count(session_id: str | None) -> Plan[int]:
    count: int = yield message.MessageCount(session_id=_text(session_id, "session_id"))
    return count


def session_count(source: str | None) -> Plan[int]:
    count: int = yield session.SessionCount(source=_text(source, "source"))
    return count


# --- search, lists, export -----------------------------------------------------------------


def search_messages(
    query: str,
    source_filter: Sequence[str] | None,
    exclude_sources: Sequence[str] | None,
    role_filter: Sequence[str] | None,
    limit: int,
    offset: int,
) -> Plan[list[Dict]]:
    page = yield search_request(query, source_filter, exclude_sources, role_filter, limit, offset)
    hits: list[Dict] = page.rows
    return hits


def search_request(
    query: str,
    source_filter: Sequence[str] | None,
    exclude_sources: Sequence[str] | None,
    role_filter: Sequence[str] | None,
    limit: int,
    offset: int,
) -> message.SearchMessages:
    return message.SearchMessages(
        query=_required(query, "query"),
        source_filter=_texts(source_filter, "source_filter"),
        exclude_sources=_texts(exclude_sources, "exclude_sources"),
        role_filter=_texts(role_filter, "role_filter"),
        limit=_bound(limit, "limit"),
        offset=_bound(offset, "offset"),
    )


def search_sessions(source: str | None, limit: int, offset: int) -> Plan[list[Dict]]:
    found = yield session.SessionNewest(
        source=_text(source, "source"),
        limit=_bound(limit, "limit"),
        offset=_bound(offset, "offset"),
    )
    return [rows.decode_session(row) for row in found]


def list_sessions_rich(
    source: str | None, exclude_sources: Sequence[str] | None, limit: int, offset: int
) -> Plan[list[Dict]]:
    found: list[Dict] = yield session.SessionRich(
        source=_text(source, "source"),
        exclude_sources=_texts(exclude_sources, "exclude_sources"),
        limit=_bound(limit, "limit"),
        offset=_bound(offset, "offset"),
    )
    return found


def export_session(session_id: str) -> Plan[Dict | None]:
    exported = yield from get_session(session_id)
    if exported is not None:
        exported["messages"] = yield from get_messages(session_id, None, 0)
    return exported


def export_page(source: str | None, after: tuple[float, str] | None) -> Plan[list[Dict]]:
    """The sessions that follow ``after`` in an export, without their messages."""
    found = yield session.SessionPage(source=_text(source, "source"), after=after)
    return [rows.decode_session(row) for row in found]


def export_all(source: str | None) -> Plan[list[Dict]]:
    exported: list[Dict] = []
    after: tuple[float, str] | None = None
    while page := (yield from export_page(source, after)):
        for each in page:
            each["messages"] = yield from get_messages(each["id"], None, 0)
        exported += page
        after = page_key(page)
    return exported


def page_key(page: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    """Where the next page of an export begins."""
    return (page[-1]["started_at"], page[-1]["id"])


# --- several writes as one -----------------------------------------------------------------


def apply_batch(requests: Sequence[Request[Any]]) -> Plan[list[Any]]:
    """All of these writes or none; the raw result of each."""
    results: list[Any] = yield server.BatchApply(
        items=[server.Item(each.METHOD, msgspec.Raw(_encode(each))) for each in requests]
    )
    return results


# --- the daemon ----------------------------------------------------------------------------


def get_stats() -> Plan[Dict]:
    stats: Dict = yield server.ServerStats()
    stats["sessions"] = yield session.SessionCount()
    stats["messages"] = yield message.MessageCount()
    return stats


def get_change_counter() -> Plan[Any]:
    counter = yield server.ChangeCounter()
    return counter


def request_status(client_id: bytes, seq: int) -> Plan[str]:
    status: str = yield server.RequestStatus(client_id=client_id, seq=_bound(seq, "seq"))
    return status


def new_session_id(now: float) -> str:
    """An id in the form that gateways use: local time and eight hexadecimal digits."""
    return f"{time.strftime('%Y%m%d_%H%M%S', time.localtime(now))}_{secrets.token_hex(4)}"
