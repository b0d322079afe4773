"""What every call about transcripts does, apart from waiting.

A message goes to the database first, because a file that is ahead of it is taken for an older
transcript that has to be imported. Only when the database is out of reach does a message lie in
the file alone, and then it waits to be sent later (see ``backlog``).
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sessiond_client import _errors as errors
from sessiond_client import _requests as calls
from sessiond_client.gateway import transcripts
from sessiond_client.gateway.backlog import Backlog, Outage
from sessiond_client.gateway.steps import Contended, FileWork, Plan
from sessiond_client.gateway.transcripts import Line
from sessiond_protocol import rows
from sessiond_protocol.content import clean_text
from sessiond_protocol.requests.message import (
    NOT_REPLACED,
    Message,
    MessageReplace,
    Unchanged,
)
from sessiond_protocol.requests.route import Transcript, TranscriptState
from sessiond_protocol.requests.session import SessionEnsure

log = logging.getLogger(__name__)

# What a stored message has besides what callers give.
_DERIVED: Final = {"content_value", "tool_call_count"}
STORED_FIELDS: Final = frozenset(Message.__struct_fields__) - _DERIVED


class TranscriptPlans:
    """The calls about transcripts of one store.

    ``keeps_files``: messages are written to files too. ``clock`` gives Unix seconds.
    """

    def __init__(self, sessions_dir: Path, keeps_files: bool, clock: Callable[[], float]) -> None:
        self._sessions_dir = sessions_dir
        self._keeps_files = keeps_files
        self._clock = clock
        self._backlog = Backlog()

    # --- the calls -------------------------------------------------------------------------

    def append(self, session_id: str, message: Mapping[str, Any], skip_db: bool) -> Plan[None]:
        path, line = None, b""
        if self._keeps_files:
            path = transcripts.transcript_path(self._sessions_dir, session_id)
            line = transcripts.encoded(message)
        name = clean_text(session_id)
        outage: Outage | None = None
        stored: Message | None = None
        if not skip_db:
            stored = as_stored(message, self._clock())
            outage = yield from self._backlog.store(name, stored)
        if path is None:
            if outage is not None:
                raise outage.error
            return
        try:
            key: str = yield FileWork(lambda: transcripts.append_line(path, line))
        except OSError as exc:
            if outage is not None:
                raise outage.error from exc
            if stored is None:
                raise
            # Raised, this would make the caller store the message a second time.
            log.warning("%s: a message that is stored cannot be added: %s", path, exc)
            return
        if outage is not None and stored is not None:
            self._backlog.keep(name, stored, key, outage)

    def rewrite(self, session_id: str, messages: Iterable[Mapping[str, Any]]) -> Plan[None]:
        messages = list(messages)
        path, lines = None, []
        if self._keeps_files:
            path = transcripts.transcript_path(self._sessions_dir, session_id)
            lines = [transcripts.encoded(message) for message in messages]
        now, name = self._clock(), clean_text(session_id)
        stored = [
            _named(f"messages[{index}]", message, now) for index, message in enumerate(messages)
        ]
        yield from self._send_waiting(name)
        yield MessageReplace(session_id=name, messages=stored, mark_transcript=True)
        if path is not None:
            target = path
            yield FileWork(lambda: transcripts.rewrite_lines(target, lines))

    def load(self, session_id: str) -> Plan[list[dict[str, Any]]]:
        name = clean_text(session_id)
        yield from self._send_waiting(name)
        yield from self._import(session_id, name)
        raw = yield from calls.raw_messages(name, None, 0, active_only=True)
        return rows.as_conversation(raw)

    def send_all_waiting(self) -> Plan[None]:
        """Send what waits, of every session; raises the first failure after trying all."""
        return self._backlog.send_all()

    # --- what they share -------------------------------------------------------------------

    def _send_waiting(self, session_id: str) -> Plan[None]:
        failure = yield from self._backlog.send(session_id)
        if failure is not None:
            raise failure

    # --- transcripts that are older than the database --------------------------------------

    def _import(self, session_id: str, name: str) -> Plan[None]:
        """Take a file that has more messages than the database, unless files count no more."""
        try:
            path = transcripts.transcript_path(self._sessions_dir, session_id)
        except ValueError:
            if self._keeps_files:
                raise
            return
        now = self._clock()
        while True:
            state: Transcript = yield TranscriptState(session_id=name)
            if state.marked:
                return
            found: list[Message] = yield FileWork(lambda: _messages_of(path, now))
            if len(found) <= state.messages:
                return
            if state.messages == 0:
                yield SessionEnsure(session_id=name, started_at=found[0].timestamp)
            replacement = MessageReplace(
                session_id=name,
                messages=found,
                mark_transcript=True,
                only_if=Unchanged(unmarked=True, message_count=state.messages),
            )
            try:
                stored: int = yield replacement
            except errors.TooLarge as exc:
                log.error("%s: its %d messages cannot be imported: %s", path, len(found), exc)
                return
            if stored != NOT_REPLACED:
                log.info("%s: %d messages are imported", path, stored)
                return
            yield Contended(f"transcript of session {name!r}")


def as_stored(message: Mapping[str, Any], now: float, key: str | None = None) -> Message:
    """A message as the database keeps it; what it has besides is ignored.

    Its time is Unix seconds or ISO 8601, ``now`` without one. Raises ``ValueError`` or
    ``TypeError`` naming a field that no column holds.
    """
    fields = {name: value for name, value in message.items() if name in STORED_FIELDS}
    timestamp = fields.get("timestamp")
    fields["timestamp"] = _seconds(timestamp) if isinstance(timestamp, str) else timestamp
    if fields["timestamp"] is None:
        fields["timestamp"] = now
    if fields.get("message_key") is None:
        fields["message_key"] = key
    return calls.message_of(fields)


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as exc:
        raise ValueError(
            f"timestamp must be Unix seconds or a time in ISO 8601, not {text!r}"
        ) from exc


def _named(what: str, message: Mapping[str, Any], now: float) -> Message:
    try:
        return as_stored(message, now)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{what}: {error}") from error


def _messages_of(path: Path, now: float) -> list[Message]:
    """The messages of a file, each key once; those that cannot be stored are warned of."""
    stored: dict[str, Message] = {}
    for line in transcripts.read_lines(path):
        message = _storable(path, line, now)
        if message is not None and message.message_key is not None:
            stored.setdefault(message.message_key, message)
    return list(stored.values())


def _storable(path: Path, line: Line, now: float) -> Message | None:
    try:
        return as_stored(line.message, now, line.key)
    except (TypeError, ValueError) as exc:
        log.warning("%s: line %d cannot be stored, skipped: %s", path, line.number, exc)
        return None
