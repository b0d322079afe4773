"""Peer *hermes*: the ``SessionDB`` of hermes-agent, as its users run it, in every process.

The package is optional: ``pip install --no-deps hermes-agent==0.19.0`` (its store needs nothing
beyond the standard library; ``--no-deps`` keeps some thirty pinned packages out). It sets
write-ahead logging, leaves ``synchronous`` at SQLite's FULL, has a newer schema with a second,
trigram index, and retries by itself; all of that is part of what is measured.
"""

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from sessiond_client.bench.operations import (
    AddTokens,
    Append,
    ListSessions,
    Mix,
    Operation,
    ReadTranscript,
    Search,
    prefilled_sessions,
    worker_sessions,
)
from tests.load.peers.common import (
    Peer,
    Settings,
    Unsupported,
    always_one_at_a_time,
    main,
    standard_library_versions,
)

PINNED: Final = "0.19.0"


class HermesSessionDB(Protocol):
    """The calls of its store that are used here."""

    def create_session(self, session_id: str, source: str) -> str: ...
    def append_message(self, session_id: str, role: str, **fields: Any) -> int: ...
    def replace_messages(self, session_id: str, messages: list[dict[str, Any]]) -> None: ...
    def update_token_counts(self, session_id: str, **counts: Any) -> None: ...
    def get_messages_as_conversation(self, session_id: str) -> list[dict[str, Any]]: ...
    def list_sessions_rich(self, *, limit: int) -> list[dict[str, Any]]: ...
    def search_messages(self, query: str, *, limit: int) -> list[dict[str, Any]]: ...
    def close(self) -> None: ...


def open_session_db(database: Path) -> HermesSessionDB:
    """Its store on this file; Unsupported, naming the package, when it is not installed."""
    # Its home, where it may log or look for configuration, is the benchmark's own folder.
    os.environ["HERMES_HOME"] = str(database.parent)
    try:
        module = importlib.import_module("hermes_state")
    except ImportError as exc:
        raise Unsupported(
            f"hermes-agent cannot be imported ({exc}); pip install --no-deps hermes-agent=={PINNED}"
        ) from exc
    store: HermesSessionDB = module.SessionDB(database)
    return store


class HermesStore:
    """One process's ``SessionDB``."""

    def __init__(self, database: Path, worker: int) -> None:
        self._db = open_session_db(database)
        self._by_kind: dict[type, Callable[[Any], object]] = {
            Append: self._append,
            AddTokens: self._add_tokens,
            ReadTranscript: lambda read: self._db.get_messages_as_conversation(read.session),
            ListSessions: lambda _: self._db.list_sessions_rich(limit=20),
            Search: lambda search: self._db.search_messages(search.word, limit=20),
        }
        for session in worker_sessions(worker):
            self._db.create_session(session, "cli")

    def perform(self, operation: Operation) -> None:
        """One call of its public interface."""
        self._by_kind[type(operation)](operation)

    def close(self) -> None:
        """Close its connection."""
        self._db.close()

    def _append(self, operation: Append) -> int:
        message = operation.message
        return self._db.append_message(
            message.session,
            message.role,
            content=message.content,
            tool_name=message.tool_name,
            tool_calls=message.tool_calls,
            tool_call_id=message.tool_call_id,
            token_count=message.token_count,
            finish_reason=message.finish_reason,
        )

    def _add_tokens(self, operation: AddTokens) -> None:
        self._db.update_token_counts(
            operation.session,
            input_tokens=operation.input_tokens,
            output_tokens=operation.output_tokens,
            model=operation.model,
        )


def prepare(settings: Settings, text: Sequence[str]) -> None:
    """Let it make its own file; a stored session is one ``replace_messages``."""
    db = open_session_db(settings.database)
    try:
        length = settings.session_length
        for number, session in enumerate(prefilled_sessions(settings.stored, length)):
            db.create_session(session, "cli")
            places = range(number * length, min((number + 1) * length, settings.stored))
            db.replace_messages(session, [_stored_message(place, text) for place in places])
    finally:
        db.close()


def _stored_message(place: int, text: Sequence[str]) -> dict[str, Any]:
    return {
        "role": "user" if place % 2 == 0 else "assistant",
        "content": text[place % len(text)],
        "timestamp": 1.7e9 + place,
    }


def versions() -> dict[str, str]:
    """The package's version, and the SQLite it runs on."""
    installed = importlib.metadata.version("hermes-agent")
    return {"hermes-agent": installed} | standard_library_versions()


PEER: Final = Peer(
    name="hermes",
    mixes=frozenset(Mix) - {Mix.APPEND_MANY},
    missing="its store appends one message per call",
    prepare=prepare,
    open_store=HermesStore,
    loop_for=always_one_at_a_time,
    versions=versions,
)

if __name__ == "__main__":
    sys.exit(main(PEER))
