"""Messages that lie in a file alone, because the database was out of reach.

They wait here and are sent before anything else is done with their session, in order, under the
keys of their lines: an import of the file by another gateway gives them the same keys, so that
each is stored once.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from sessiond_client import _errors as errors
from sessiond_client import _requests as calls
from sessiond_client.gateway.steps import Plan
from sessiond_protocol.errors import SessiondError
from sessiond_protocol.requests.message import (
    Message,
    MessageAppend,
    MessageAppendMany,
    MessageCount,
)
from sessiond_protocol.requests.server import ServerPing

log = logging.getLogger(__name__)

# The messages that wait, of all sessions together. Beyond them the database's errors are
# raised, so that an outage does not fill the memory.
MOST_WAITING: Final = 10_000
# Those that are sent in one request, so that no request grows too large.
SENT_AT_ONCE: Final = 20
# How far back a message is looked for whose outcome nobody knows. It was the last of its writer.
LOOKED_AT: Final = 100

# Errors of the request itself: it will fail the same way however often it is sent.
_FINAL: Final = (
    errors.Integrity,
    errors.Conflict,
    errors.NotFound,
    errors.InvalidParams,
    errors.TooLarge,
)
# What makes two messages the same one.
_COMPARED: Final = (
    "role",
    "content",
    "timestamp",
    "tool_call_id",
    "tool_calls",
    "tool_name",
    "reasoning",
)


@dataclass(slots=True, eq=False)
class _Waiting:
    """``in_doubt``: it was sent without a key, and nobody knows whether it was stored."""

    message: Message
    in_doubt: bool


class Outage(NamedTuple):
    """Why a message has to wait, and whether it may have been stored without an answer."""

    error: SessiondError
    in_doubt: bool


class Backlog:
    """The messages of one store that wait for the database, by session."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[_Waiting]] = {}

    def store(self, session_id: str, message: Message) -> Plan[Outage | None]:
        """Store a message behind those that wait; the outage if it may wait with them.

        Every other failure is raised, and also an outage when too many wait.
        """
        failure = yield from self.send(session_id)
        was_sent = failure is None
        if failure is None:
            try:
                yield MessageAppend(session_id=session_id, message=message)
                return None
            except SessiondError as error:
                failure = error
        is_unknown = isinstance(failure, errors.OutcomeUnknown)
        if not failure.retryable and not is_unknown:
            raise failure
        with self._lock:
            if sum(map(len, self._waiting.values())) >= MOST_WAITING:
                raise failure
        return Outage(failure, is_unknown and was_sent)

    def keep(self, session_id: str, message: Message, key: str, outage: Outage) -> None:
        """Let a message wait that lies in its file under ``key``."""
        in_doubt = False
        if message.message_key is None:
            message = msgspec.structs.replace(message, message_key=key)
            in_doubt = outage.in_doubt
        with self._lock:
            waiting = self._waiting.setdefault(session_id, [])
            waiting.append(_Waiting(message, in_doubt))
            is_first = len(waiting) == 1
        log.log(
            logging.WARNING if is_first else logging.DEBUG,
            "messages of session %r are in its file alone until the database answers: %s",
            session_id,
            outage.error,
        )

    def send(self, session_id: str) -> Plan[SessiondError | None]:
        """Send what waits, in order; the failure that keeps it waiting.

        Two that send the same messages at once store them once, by their keys.
        """
        at_once = SENT_AT_ONCE
        while waiting := self._waiting.get(session_id, [])[:at_once]:
            try:
                if waiting[0].in_doubt:
                    if (yield from _is_stored(session_id, waiting[0].message)):
                        self._sent(session_id, waiting[:1])
                    waiting[0].in_doubt = False
                    continue
                messages = [each.message for each in waiting]
                yield MessageAppendMany(session_id=session_id, messages=messages)
            except SessiondError as error:
                if not isinstance(error, _FINAL):
                    return error
                if len(waiting) > 1:
                    at_once = 1  # find out which
                    continue
                log.error(
                    "a message of session %r stays in its file alone, it cannot be stored: %s",
                    session_id,
                    error,
                )
            self._sent(session_id, waiting)
        return None

    def send_all(self) -> Plan[None]:
        """Send what waits, of every session; raises the first failure after trying all."""
        failures = []
        for session_id in list(self._waiting):
            failure = yield from self.send(session_id)
            if failure is not None:
                failures.append(failure)
        if failures:
            raise failures[0]

    def _sent(self, session_id: str, done: Sequence[_Waiting]) -> None:
        with self._lock:
            rest = [each for each in self._waiting.get(session_id, []) if each not in done]
            if rest:
                self._waiting[session_id] = rest
            else:
                self._waiting.pop(session_id, None)


def _is_stored(session_id: str, message: Message) -> Plan[bool]:
    """Whether a message that was sent once is among the last of its session."""
    # Whatever was sent before it is decided when this is answered.
    yield ServerPing()
    count: int = yield MessageCount(session_id=session_id)
    offset = max(0, count - LOOKED_AT)
    last = yield from calls.raw_messages(session_id, LOOKED_AT, offset, active_only=False)
    return any(_is_same(row, message) for row in last)


def _is_same(row: dict[str, Any], message: Message) -> bool:
    return all(row[name] == getattr(message, name) for name in _COMPARED)
