"""A session from a file, and the requests that store it. Pure.

An export's line is a session with all columns and its ``messages``. A transcript is one chat
dict a line, as gateways wrote them; what else is known of its session stands in
``sessions.json``.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from sessiond_client import _requests as plans
from sessiond_client._arguments import MESSAGE_FIELDS
from sessiond_client.gateway.entry import SessionEntry, unix_seconds
from sessiond_protocol.content import check_real, clean_text
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import Message, MessageAppendMany, MessageReplace
from sessiond_protocol.requests.server import BatchApply, Item
from sessiond_protocol.requests.session import SessionCreate, SessionEnd, SessionSetTitle
from sessiond_protocol.titles import MAX_TITLE_LENGTH, sanitize_title

# Far below any sensible max_request_bytes, far above what pays.
CHUNK_BYTES: Final = 2 * 1024 * 1024
CHUNK_MESSAGES: Final = 2000

SESSION_META: Final = "session_meta"  # a gateway's line about the session, no message

_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_COSTS: Final = (
    "estimated_cost_usd",
    "actual_cost_usd",
    "cost_status",
    "cost_source",
    "pricing_version",
    "billing_provider",
    "billing_base_url",
    "billing_mode",
)

_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Incoming:
    """One session to store: its columns as far as they are known, and its messages."""

    session_id: str
    columns: dict[str, Any]
    messages: list[Message] = field(default_factory=list)

    @property
    def parent(self) -> str | None:
        """The session that it continues."""
        return _text(self.columns, "parent_session_id")

    @property
    def title(self) -> str | None:
        """Its title as it can be stored."""
        title = _text(self.columns, "title")
        try:
            return sanitize_title(title)
        except ValueError:
            return sanitize_title((title or "")[:MAX_TITLE_LENGTH])


# --- from files ----------------------------------------------------------------------------


def from_export(line: Mapping[str, Any]) -> Incoming:
    """The session of an export's line. Raises ``ValueError`` that names what is wrong."""
    session_id = line.get("id")
    messages = line.get("messages")
    if not isinstance(session_id, str) or not session_id:
        raise ValueError(f"id is {session_id!r}, text that is not empty is wanted")
    if not isinstance(messages, list):
        raise ValueError(f"session {session_id}: messages is no list")
    columns = {name: value for name, value in line.items() if name != "messages"}
    try:
        return Incoming(session_id, columns, list(_stored(messages)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"session {session_id}: {error}") from error


def from_transcript(
    session_id: str, lines: Sequence[Mapping[str, Any]], entry: SessionEntry | None
) -> Incoming:
    """The session of a transcript; ``entry`` is what ``sessions.json`` says of it."""
    columns: dict[str, Any] = {}
    for line in lines:
        if line.get("role") == SESSION_META:
            columns |= {"model": line.get("model"), "source": line.get("platform")}
    if entry is not None:
        columns |= of_entry(entry)
    chat = [line for line in lines if line.get("role") != SESSION_META]
    try:
        messages = list(_stored(chat))
    except (TypeError, ValueError) as error:
        raise ValueError(f"session {session_id}: {error}") from error
    if messages:
        columns.setdefault("started_at", messages[0].timestamp)
    return Incoming(session_id, columns, messages)


def of_entry(entry: SessionEntry) -> dict[str, Any]:
    """A session's columns as far as a gateway's entry knows them."""
    platform = entry.platform.value if entry.platform else entry.raw_platform
    return {
        "source": platform if isinstance(platform, str) else None,
        "user_id": entry.origin.user_id if entry.origin else None,
        "started_at": unix_seconds(entry.created_at),
        **{name: getattr(entry, name) for name in _COUNTS if hasattr(entry, name)},
        "estimated_cost_usd": entry.estimated_cost_usd or None,
        "cost_status": entry.cost_status if entry.cost_status != "unknown" else None,
    }


def _stored(messages: Sequence[Any]) -> Iterator[Message]:
    """Messages as they are sent; columns that the store does not know are left out.

    One without a time of its own gets that of the message before it.
    """
    last = None
    for index, fields in enumerate(messages):
        if not isinstance(fields, dict):
            raise ValueError(f"messages[{index}] is {type(fields).__name__}, not an object")
        known = {name: fields[name] for name in MESSAGE_FIELDS & fields.keys()}
        try:
            known["timestamp"] = last = _moment(fields.get("timestamp"), last)
            yield plans.message_of(known)
        except (TypeError, ValueError) as error:
            raise ValueError(f"messages[{index}]: {error}") from error


def _moment(value: Any, otherwise: float | None) -> float | None:
    """Unix seconds of a number or of ISO 8601."""
    if value is None:
        return otherwise
    if isinstance(value, str):
        return datetime.fromisoformat(value).timestamp()
    return check_real(value, "timestamp")


def _text(columns: Mapping[str, Any], name: str) -> str | None:
    value = columns.get(name)
    return clean_text(value) if isinstance(value, str) and value else None


# --- to requests ---------------------------------------------------------------------------


def creation(incoming: Incoming, *, parent: str | None = None) -> SessionCreate:
    """The request that makes the row. The parent comes later: it may not be there yet."""
    columns = incoming.columns
    config = columns.get("model_config")
    started = columns.get("started_at")
    return SessionCreate(
        session_id=clean_text(incoming.session_id),
        source=_text(columns, "source") or "unknown",
        started_at=time.time() if started is None else check_real(started, "started_at"),
        model=_text(columns, "model"),
        model_config=config
        if isinstance(config, str) or config is None
        else msgspec.json.encode(config).decode(),
        system_prompt=_text(columns, "system_prompt"),
        user_id=_text(columns, "user_id"),
        parent_session_id=parent,
    )


def requests_for(
    incoming: Incoming, *, replace: bool = False, with_title: bool = True
) -> list[BatchApply]:
    """The requests that store a session, in order; one is enough unless it is very long.

    Each is applied whole or not at all. ``replace`` puts the messages in the place of those
    that are stored.
    """
    session_id = clean_text(incoming.session_id)
    chunks = list(chunked(incoming.messages)) or [[]]
    batches: list[list[Request[Any]]] = []
    for place, chunk in enumerate(chunks):
        writes: list[Request[Any]] = []
        if place == 0:
            writes.append(creation(incoming))
        if place == 0 and replace:
            writes.append(MessageReplace(session_id=session_id, messages=chunk))
        elif chunk:
            writes.append(MessageAppendMany(session_id=session_id, messages=chunk))
        batches.append(writes)
    batches[-1] += _last_writes(incoming, session_id, with_title=with_title)
    return [_batch(writes) for writes in batches]


def _last_writes(
    incoming: Incoming, session_id: str, *, with_title: bool
) -> Iterator[Request[Any]]:
    columns = incoming.columns
    counts = {name: columns.get(name) for name in (*_COUNTS, *_COSTS)}
    if any(counts.values()):
        yield plans.token_request(session_id, counts, True)
    if with_title and incoming.title:
        yield SessionSetTitle(session_id=session_id, title=incoming.title)
    ended = columns.get("ended_at")
    if ended is not None:
        yield SessionEnd(
            session_id=session_id,
            end_reason=_text(columns, "end_reason"),
            ended_at=check_real(ended, "ended_at"),
        )


def _batch(writes: Sequence[Request[Any]]) -> BatchApply:
    return BatchApply(items=[Item(each.METHOD, msgspec.Raw(_encode(each))) for each in writes])


def chunked(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Parts of a transcript that each fit into one request."""
    part: list[Message] = []
    size = 0
    for message in messages:
        length = len(_encode(message))
        if part and (size + length > CHUNK_BYTES or len(part) >= CHUNK_MESSAGES):
            yield part
            part, size = [], 0
        part.append(message)
        size += length
    if part:
        yield part
