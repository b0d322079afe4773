"""Sessions: create, end, title, delete."""

from typing import Any, Final

from sessiond.sqlite.batch import Batch
from sessiond.sqlite.disorder import FORGET
from sessiond.sqlite.handlers.registry import handles
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests import session as requests
from sessiond_protocol.requests.feed import Event

# A slice is one transaction that others wait for. It ends by what it deleted, not by the clock:
# a batch that runs twice must do the same twice.
_SLICE_SESSIONS: Final = 200
_SLICE_MESSAGES: Final = 2_000


def exists(batch: Batch, session_id: str) -> bool:
    """Whether a session of this id exists."""
    return batch.row("SELECT 1 FROM sessions WHERE id = ?", (session_id,)) is not None


@handles(requests.SessionCreate)
def create(batch: Batch, request: requests.SessionCreate) -> str:
    """Insert a session; on an existing one fill what is unset and change nothing else."""
    parent = request.parent_session_id
    if parent is not None and parent != request.session_id and not exists(batch, parent):
        raise Failure(
            Code.INTEGRITY,
            f"parent session {parent!r} of {request.session_id!r} does not exist",
            {"session_id": parent},
        )
    values = (
        request.session_id,
        request.source,
        request.user_id,
        request.model,
        request.model_config,
        request.system_prompt,
        parent,
        request.started_at,
    )
    inserted = batch.execute(
        "INSERT INTO sessions (id, source, user_id, model, model_config, system_prompt,"
        " parent_session_id, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING RETURNING 1",
        values,
    ).fetchall()
    if inserted:
        batch.events.append(Event("session_created", request.session_id))
    else:
        _fill(batch, request)
    return request.session_id


def _fill(batch: Batch, request: requests.SessionCreate) -> None:
    batch.execute(
        "UPDATE sessions SET source = CASE source WHEN 'unknown' THEN ? ELSE source END,"
        " user_id = coalesce(user_id, ?), model = coalesce(model, ?),"
        " model_config = coalesce(model_config, ?), system_prompt = coalesce(system_prompt, ?),"
        " parent_session_id = coalesce(parent_session_id, ?) WHERE id = ?",
        (
            request.source,
            request.user_id,
            request.model,
            request.model_config,
            request.system_prompt,
            request.parent_session_id,
            request.session_id,
        ),
    )


@handles(requests.SessionEnsure)
def ensure(batch: Batch, request: requests.SessionEnsure) -> None:
    """Insert a bare session unless one of this id exists."""
    ensure_row(batch, request.session_id, request.source, request.model, request.started_at)


def ensure_row(
    batch: Batch, session_id: str, source: str, model: str | None, started_at: float
) -> None:
    """Insert a bare session unless one of this id exists."""
    inserted = batch.execute(
        "INSERT INTO sessions (id, source, model, started_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING RETURNING 1",
        (session_id, source, model, started_at),
    ).fetchall()
    if inserted:
        batch.events.append(Event("session_created", session_id))


@handles(requests.SessionEnd)
def end(batch: Batch, request: requests.SessionEnd) -> None:
    """End a session that has not ended; the first reason stays."""
    ended = batch.execute(
        "UPDATE sessions SET ended_at = ?, end_reason = ? WHERE id = ? AND ended_at IS NULL"
        " RETURNING 1",
        (request.ended_at, request.end_reason, request.session_id),
    ).fetchall()
    if ended:
        batch.events.append(Event("session_ended", request.session_id, text=request.end_reason))


@handles(requests.SessionReopen)
def reopen(batch: Batch, request: requests.SessionReopen) -> None:
    """Clear both columns of a session's end."""
    reopened = batch.execute(
        "UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE id = ?"
        " AND (ended_at IS NOT NULL OR end_reason IS NOT NULL) RETURNING 1",
        (request.session_id,),
    ).fetchall()
    if reopened:
        batch.events.append(Event("session_reopened", request.session_id))


@handles(requests.SessionSetSystemPrompt)
def set_system_prompt(batch: Batch, request: requests.SessionSetSystemPrompt) -> None:
    """Store the prompt as it was assembled."""
    batch.execute(
        "UPDATE sessions SET system_prompt = ? WHERE id = ?",
        (request.system_prompt, request.session_id),
    )


@handles(requests.SessionSetTitle)
def set_title(batch: Batch, request: requests.SessionSetTitle) -> bool:
    """Set or clear a title; one that another session has is a conflict that names it."""
    if request.title is not None:
        holder = batch.row(
            "SELECT id FROM sessions WHERE title = ? AND id <> ?",
            (request.title, request.session_id),
        )
        if holder is not None:
            if not exists(batch, request.session_id):
                return False
            raise Failure(
                Code.CONFLICT,
                f"title {request.title!r} is already in use by session {holder[0]!r}",
                {"session_id": holder[0]},
            )
    changed = batch.execute(
        "UPDATE sessions SET title = ? WHERE id = ? RETURNING 1",
        (request.title, request.session_id),
    ).fetchall()
    if changed:
        batch.events.append(Event("session_titled", request.session_id, text=request.title))
    return bool(changed)


@handles(requests.SessionDelete)
def delete(batch: Batch, request: requests.SessionDelete) -> bool:
    """Delete a session with its messages."""
    if not exists(batch, request.session_id):
        return False
    delete_rows(batch, request.session_id)
    return True


def delete_rows(batch: Batch, session_id: str) -> int:
    """Delete a session that exists, its children become orphans; how many messages it had."""
    messages = delete_messages(batch, session_id)
    batch.execute(
        "UPDATE sessions SET parent_session_id = NULL WHERE parent_session_id = ?", (session_id,)
    )
    batch.execute("DELETE FROM sessiond_transcripts WHERE session_id = ?", (session_id,))
    batch.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
    batch.events.append(Event("session_deleted", session_id))
    return messages


def delete_messages(batch: Batch, session_id: str) -> int:
    """Delete a session's messages with everything that belongs to them; how many."""
    batch.changes += 1
    batch.staged.counters.pop(session_id, None)
    batch.index.removing_session(batch, session_id)
    batch.execute(
        "DELETE FROM sessiond_content WHERE message_id IN"
        " (SELECT id FROM messages WHERE session_id = ?)",
        (session_id,),
    )
    batch.execute("DELETE FROM sessiond_message_keys WHERE session_id = ?", (session_id,))
    batch.execute(FORGET, (session_id,))
    if batch.insertion is not None:
        batch.insertion.emptied(session_id)
    batch.execute("DELETE FROM messages WHERE session_id = ?", (session_id,))
    return batch.connection.changes()


@handles(requests.SessionPruneSlice)
def prune_slice(batch: Batch, request: requests.SessionPruneSlice) -> int:
    """Delete the oldest ended sessions, at most ``limit`` of them; at least one, if any."""
    doomed: list[Any] = batch.execute(
        "SELECT id FROM sessions WHERE ended_at IS NOT NULL AND started_at < ?1"
        " AND (?2 IS NULL OR source = ?2) ORDER BY started_at LIMIT ?3",
        (request.before, request.source, min(request.limit, _SLICE_SESSIONS)),
    ).fetchall()
    deleted = messages = 0
    for (session_id,) in doomed:
        messages += delete_rows(batch, session_id)
        deleted += 1
        if messages >= _SLICE_MESSAGES:
            break
    return deleted
