"""Messages: append, replace, clear."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from sessiond.sqlite.batch import Batch
from sessiond.sqlite.disorder import NEWEST, NOTE, highest
from sessiond.sqlite.handlers.registry import handles
from sessiond.sqlite.handlers.sessions import delete_messages, exists
from sessiond.sqlite.insertion import INSERT, TIME
from sessiond_protocol.content import text_hash
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests import message as requests
from sessiond_protocol.requests.feed import Event
from sessiond_protocol.requests.message import Message


def _unknown_session(session_id: str) -> Failure:
    return Failure(
        Code.INTEGRITY, f"session {session_id!r} does not exist", {"session_id": session_id}
    )


@handles(requests.MessageAppend)
def append(batch: Batch, request: requests.MessageAppend) -> int:
    """Store one message; its id."""
    return _store(batch, request.session_id, request.message)


def append_all(batch: Batch, appends: list[requests.MessageAppend]) -> int | None:
    """Append messages that need no statements of their own; the id of the first.

    None: one of them does, nothing was done. No request is refused here. Any error leaves the
    run in a state that only a rollback mends.
    """
    insertion = batch.insertion
    sessions = Counter([append.session_id for append in appends])
    if insertion is None or not insertion.takes_all(sessions):
        return None
    messages = [append.message for append in appends]
    if not _are_rows(messages):
        return None
    calls = Counter[str]()
    for append in appends:
        if append.message.tool_call_count:
            calls[append.session_id] += append.message.tool_call_count
    first = insertion.stage_all([_row(append.session_id, append.message) for append in appends])
    for session_id, count in sessions.items():
        batch.count(session_id, count, calls[session_id])
    _staged(batch, first, messages)
    return first


def _are_rows(messages: Sequence[Message]) -> bool:
    """Whether each message is a row and nothing else."""
    return all(each.message_key is None and each.content_value is None for each in messages)


def _staged(batch: Batch, first: int, messages: Sequence[Message]) -> None:
    """Several rows were staged and counted, with ids from ``first`` on."""
    batch.last_message_id = first + len(messages) - 1
    batch.index.added_all(batch, first, [message.content for message in messages])


@handles(requests.MessageAppendMany)
def append_many(batch: Batch, request: requests.MessageAppendMany) -> list[int]:
    """Store several messages; a repeated key yields the first id in its place."""
    session_id, messages, insertion = request.session_id, request.messages, batch.insertion
    if messages and insertion is not None and insertion.takes(session_id):
        if _are_rows(messages):
            first = insertion.stage_all([_row(session_id, each) for each in messages])
            batch.count(session_id, len(messages), sum(each.tool_call_count for each in messages))
            _staged(batch, first, messages)
            return list(range(first, first + len(messages)))
    elif not exists(batch, session_id):
        raise _unknown_session(session_id)
    return [_store(batch, session_id, message) for message in messages]


@handles(requests.MessageReplace)
def replace(batch: Batch, request: requests.MessageReplace) -> int:
    """Put these messages in the place of a session's transcript; how many were stored."""
    session_id = request.session_id
    if not exists(batch, session_id):
        raise _unknown_session(session_id)
    if request.only_if is not None and not _is(batch, session_id, request.only_if):
        return requests.NOT_REPLACED
    if request.mark_transcript:
        batch.execute("INSERT OR IGNORE INTO sessiond_transcripts VALUES (?)", (session_id,))
    delete_messages(batch, session_id)
    _zero_counters(batch, session_id)
    ids = list(dict.fromkeys(_store(batch, session_id, each) for each in request.messages))
    batch.events.append(
        Event(
            "messages_replaced",
            session_id,
            first_id=ids[0] if ids else None,
            last_id=ids[-1] if ids else None,
        )
    )
    return len(ids)


def _is(batch: Batch, session_id: str, state: requests.Unchanged) -> bool:
    # The session's own counter lags behind within a batch, and foreign programs may not keep it.
    stored, marked = batch.row(
        "SELECT (SELECT COUNT(*) FROM messages WHERE session_id = ?1),"
        " EXISTS (SELECT 1 FROM sessiond_transcripts WHERE session_id = ?1)",
        (session_id,),
    )
    return stored == state.message_count and not (state.unmarked and marked)


@handles(requests.MessageClear)
def clear(batch: Batch, request: requests.MessageClear) -> None:
    """Delete a session's messages and zero its counters."""
    if delete_messages(batch, request.session_id):
        batch.events.append(Event("messages_cleared", request.session_id))
    _zero_counters(batch, request.session_id)


def _zero_counters(batch: Batch, session_id: str) -> None:
    batch.execute(
        "UPDATE sessions SET message_count = 0, tool_call_count = 0 WHERE id = ?", (session_id,)
    )


def _store(batch: Batch, session_id: str, message: Message) -> int:
    if message.content_value is not None and message.content is None:
        message = msgspec.structs.replace(message, content="")  # a structure without text parts
    key = message.message_key
    if key is not None:
        batch.flush_rows()
        stored = batch.row(
            "SELECT m.id FROM sessiond_message_keys AS k JOIN messages AS m"
            " ON m.id = k.message_id AND m.session_id = k.session_id"
            " WHERE k.session_id = ? AND k.key = ?",
            (session_id, key),
        )
        if stored is not None:
            return int(stored[0])
    message_id = _add_row(batch, session_id, message)
    if message.content_value is not None:
        assert message.content is not None
        _store_structure(batch, message_id, message.content, message.content_value)
    if key is not None:
        batch.execute(
            "INSERT OR REPLACE INTO sessiond_message_keys (session_id, key, message_id)"
            " VALUES (?, ?, ?)",
            (session_id, key, message_id),
        )
    return message_id


def _add_row(batch: Batch, session_id: str, message: Message) -> int:
    """The message's row, its share of the counters, and its place in the index."""
    row = _row(session_id, message)
    insertion = batch.insertion
    if insertion is not None and insertion.takes(session_id):
        message_id = insertion.stage(row)
    else:
        message_id = _insert(batch, session_id, row)
    batch.last_message_id = message_id
    batch.count(session_id, 1, message.tool_call_count)
    batch.index.added(batch, message_id, message.content)
    return message_id


def _row(session_id: str, message: Message) -> tuple[Any, ...]:
    return (
        session_id,
        message.role,
        message.content,
        message.tool_call_id,
        message.tool_calls,
        message.tool_name,
        message.timestamp,
        message.token_count,
        message.finish_reason,
        message.reasoning,
        message.reasoning_details,
        message.codex_reasoning_items,
    )


def _insert(batch: Batch, session_id: str, row: tuple[Any, ...]) -> int:
    batch.flush_rows()
    newest = highest(batch.execute(NEWEST, (session_id,)).fetchall())
    try:
        batch.execute(INSERT, row)
    except apsw.ConstraintError as error:
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_CONSTRAINT_FOREIGNKEY:
            raise _unknown_session(session_id) from error
        raise
    message_id = batch.connection.last_insert_rowid()
    if row[TIME] < newest:
        batch.execute(NOTE, (session_id,))
    if batch.insertion is not None:
        batch.insertion.inserted(session_id, message_id, max(newest, row[TIME]))
    return message_id


def _store_structure(batch: Batch, message_id: int, text: str, value: str) -> None:
    batch.execute(
        "INSERT OR REPLACE INTO sessiond_content (message_id, value, text_hash) VALUES (?, ?, ?)",
        (message_id, value, text_hash(text)),
    )
