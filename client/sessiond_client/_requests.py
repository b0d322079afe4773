"""From a call's arguments to its request, and from a raw result to what the caller gets.

One generator per call: it yields requests and receives their results; the blocking and the
asyncio client drive the same generators. Bad arguments raise ``ValueError`` that names them.
"""

import os
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from sessiond_client._arguments import (
    bound,
    required,
    stored_messages,
    text,
    texts,
    token_fields,
)
from sessiond_client._arguments import message_of as message_of
from sessiond_client._arguments import stored_message as stored_message
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
        session_id=required(session_id, "session_id"),
        source=required(source, "source"),
        started_at=time.time(),
        model=text(model, "model"),
        model_config=values.encode_json(model_config, "model_config"),
        system_prompt=text(system_prompt, "system_prompt"),
        user_id=text(user_id, "user_id"),
        parent_session_id=text(parent_session_id, "parent_session_id"),
    )
    return stored


def ensure_session(session_id: str, source: str, model: str | None) -> Plan[None]:
    yield session.SessionEnsure(
        session_id=required(session_id, "session_id"),
        source=required(source, "source"),
        model=text(model, "model"),
        started_at=time.time(),
    )


def end_session(session_id: str, end_reason: str | None) -> Plan[None]:
    yield session.SessionEnd(
        session_id=required(session_id, "session_id"),
        end_reason=text(end_reason, "end_reason"),
        ended_at=time.time(),
    )


def reopen_session(session_id: str) -> Plan[None]:
    yield session.SessionReopen(session_id=required(session_id, "session_id"))


def update_system_prompt(session_id: str, system_prompt: str | None) -> Plan[None]:
    yield session.SessionSetSystemPrompt(
        session_id=required(session_id, "session_id"),
        system_prompt=text(system_prompt, "system_prompt"),
    )


def get_session(session_id: str) -> Plan[Dict | None]:
    row = yield session.SessionGet(session_id=required(session_id, "session_id"))
    return None if row is None else rows.decode_session(row)


def resolve_session_id(session_id_or_prefix: str) -> Plan[str | None]:
    found: str | None = yield session.SessionResolve(
        session_id_or_prefix=required(session_id_or_prefix, "session_id_or_prefix")
    )
    return found


def delete_session(session_id: str) -> Plan[bool]:
    existed: bool = yield session.SessionDelete(session_id=required(session_id, "session_id"))
    return existed


def prune_sessions(older_than_days: float, source: str | None) -> Plan[int]:
    before = time.time() - values.check_real(older_than_days, "older_than_days") * 86_400
    wanted = text(source, "source")
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
    return session.SessionUpdateTokens(
        session_id=required(session_id, "session_id"),
        at=time.time(),
        absolute=absolute,
        **token_fields(counts),
    )


# --- titles --------------------------------------------------------------------------------


def set_session_title(session_id: str, title: str | None) -> Plan[bool]:
    changed: bool = yield session.SessionSetTitle(
        session_id=required(session_id, "session_id"),
        title=sanitize_title(text(title, "title")),
    )
    return changed


def get_session_title(session_id: str) -> Plan[str | None]:
    title: str | None = yield session.SessionTitle(session_id=required(session_id, "session_id"))
    return title


def get_session_by_title(title: str) -> Plan[Dict | None]:
    row = yield session.SessionByTitle(title=required(title, "title"))
    return None if row is None else rows.decode_session(row)


def resolve_session_by_title(title: str) -> Plan[str | None]:
    found: str | None = yield session.SessionResolveTitle(title=required(title, "title"))
    return found


def get_next_title_in_lineage(base_title: str) -> Plan[str]:
    title: str = yield session.SessionNextTitle(base_title=required(base_title, "base_title"))
    return title


# --- messages ------------------------------------------------------------------------------


def append_request(session_id: str, stored: message.Message) -> message.MessageAppend:
    return message.MessageAppend(
        session_id=required(session_id, "session_id"),
        message=stored,
    )


def append_message(session_id: str, stored: message.Message) -> Plan[int]:
    message_id: int = yield append_request(session_id, stored)
    return message_id


def append_messages(session_id: str, messages: Sequence[Mapping[str, Any]]) -> Plan[list[int]]:
    ids: list[int] = yield message.MessageAppendMany(
        session_id=required(session_id, "session_id"),
        messages=stored_messages(messages),
    )
    return ids


def replace_messages(session_id: str, messages: Sequence[Mapping[str, Any]]) -> Plan[int]:
    stored: int = yield message.MessageReplace(
        session_id=required(session_id, "session_id"),
        messages=stored_messages(messages),
    )
    return stored


def clear_messages(session_id: str) -> Plan[None]:
    yield message.MessageClear(session_id=required(session_id, "session_id"))


def raw_messages(
    session_id: str, limit: int | None, offset: int, *, active_only: bool
) -> Plan[list[Dict]]:
    """Every row of a transcript, page by page; no snapshot is held between two pages."""
    wanted = None if limit is None else bound(limit, "limit")
    skip = bound(offset, "offset")
    name = required(session_id, "session_id")
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
    count: int = yield message.MessageCount(session_id=text(session_id, "session_id"))
    return count


def session_count(source: str | None) -> Plan[int]:
    count: int = yield session.SessionCount(source=text(source, "source"))
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
        query=required(query, "query"),
        source_filter=texts(source_filter, "source_filter"),
        exclude_sources=texts(exclude_sources, "exclude_sources"),
        role_filter=texts(role_filter, "role_filter"),
        limit=bound(limit, "limit"),
        offset=bound(offset, "offset"),
    )


def search_sessions(source: str | None, limit: int, offset: int) -> Plan[list[Dict]]:
    found = yield session.SessionNewest(
        source=text(source, "source"),
        limit=bound(limit, "limit"),
        offset=bound(offset, "offset"),
    )
    return [rows.decode_session(row) for row in found]


def list_sessions_rich(
    source: str | None, exclude_sources: Sequence[str] | None, limit: int, offset: int
) -> Plan[list[Dict]]:
    found: list[Dict] = yield session.SessionRich(
        source=text(source, "source"),
        exclude_sources=texts(exclude_sources, "exclude_sources"),
        limit=bound(limit, "limit"),
        offset=bound(offset, "offset"),
    )
    return found


def export_session(session_id: str) -> Plan[Dict | None]:
    exported = yield from get_session(session_id)
    if exported is not None:
        exported["messages"] = yield from get_messages(session_id, None, 0)
    return exported


def export_page(source: str | None, after: tuple[float, str] | None) -> Plan[list[Dict]]:
    """The sessions that follow ``after`` in an export, without their messages."""
    found = yield session.SessionPage(source=text(source, "source"), after=after)
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
    status: str = yield server.RequestStatus(client_id=client_id, seq=bound(seq, "seq"))
    return status


def new_session_id(now: float) -> str:
    """An id in the form that gateways use: local time and eight hexadecimal digits."""
    return f"{time.strftime('%Y%m%d_%H%M%S', time.localtime(now))}_{os.urandom(4).hex()}"
