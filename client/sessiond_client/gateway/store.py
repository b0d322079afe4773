"""``SessionStore``: the blocking store. Public methods only; see ``_blocking.py`` for the rest.

``async_store.py`` is generated from this file: change it here, then run
``python client/generate_async.py``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sessiond_client.gateway._blocking import BlockingGateway
from sessiond_client.gateway.entry import SessionEntry
from sessiond_client.gateway.source import SessionSource
from sessiond_client.gateway.staleness import StaleReason


class SessionStore(BlockingGateway):
    """Which session each conversation of a gateway is in, and what was said there.

    ``sessions_dir``: where ``sessions.json`` and the transcripts lie, for older tools and for
    people. ``config``: see ``SessionConfig`` for what is asked of it.
    ``has_active_processes_fn(session_key)``: a session for which this is true never goes stale.
    ``on_auto_reset(entry)`` is called with the old entry before a stale session is replaced, by
    every gateway that comes upon it; its failure is logged. Both are plain functions.
    ``db``: a client to talk through, which stays open when the store is closed; without one the
    store makes its own. ``transcripts``: ``both`` writes files too, ``db`` does not. ``clock``:
    Unix seconds.

    Any number of gateways may use one database: a session key leads all of them to the same
    session. Any number of threads may use one store. Usable as a context manager.

    Errors of the database are raised. The one exception is ``append_to_transcript``.
    """

    # --- sessions --------------------------------------------------------------------------

    def get_or_create_session(self, source: SessionSource, force_new: bool = False) -> SessionEntry:
        """The session that a message from ``source`` belongs to.

        A live one is touched. A stale one, or any with ``force_new``, is ended as
        ``session_reset`` and a new one takes its place. Of several gateways that find it stale
        at once all get the same new session, and one of them the entry with ``was_auto_reset``.
        """
        return self._run(self._routes.get_or_create_session(source, force_new))

    def update_session(
        self,
        session_key: str,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        last_prompt_tokens: int | None = None,
        model: str | None = None,
        estimated_cost_usd: float | None = None,
        cost_status: str | None = None,
        cost_source: str | None = None,
        provider: str | None = None,
        base_url: str | None = None,
    ) -> None:
        """Store what the current session has consumed so far, and touch it.

        These are totals, not increments; one that is None is kept. ``model``, ``provider`` and
        ``base_url`` are filled in only while unset. Does nothing for a key without a session.
        """
        totals = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cache_read_tokens": cache_read_tokens,
            "cache_write_tokens": cache_write_tokens,
            "estimated_cost_usd": estimated_cost_usd,
            "cost_status": cost_status,
        }
        texts = {
            "cost_source": cost_source,
            "model": model,
            "billing_provider": provider,
            "billing_base_url": base_url,
        }
        return self._run(
            self._routes.update_session(session_key, totals, last_prompt_tokens, texts)
        )

    def reset_session(self, session_key: str) -> SessionEntry | None:
        """End the current session as ``session_reset`` and begin another; None without one."""
        return self._run(self._routes.reset_session(session_key))

    def switch_session(self, session_key: str, target_session_id: str) -> SessionEntry | None:
        """Go on with another session, reopened if it had ended; None if the key has none.

        The current one is ended as ``session_switch``. Raises ``NotFound`` if there is no
        session of this id, and then nothing is changed.
        """
        return self._run(self._routes.switch_session(session_key, target_session_id))

    def list_sessions(self, active_minutes: float | None = None) -> list[SessionEntry]:
        """The current entry of every key, or of those touched lately; the newest first."""
        return self._run(self._routes.list_sessions(active_minutes))

    def has_any_sessions(self) -> bool:
        """Whether more than one session was ever created: the caller's own counts as one."""
        return self._run(self._routes.has_any_sessions())

    def is_session_expired(self, entry: SessionEntry) -> StaleReason | None:
        """Why an entry's session is stale now, ``idle`` or ``daily``; None if it is not."""
        return self._run(self._routes.is_session_expired(entry))

    _is_session_expired = is_session_expired

    # --- transcripts -----------------------------------------------------------------------

    def append_to_transcript(
        self, session_id: str, message: Mapping[str, Any], skip_db: bool = False
    ) -> None:
        """Add a message to a session's transcript.

        The database stores the keys of ``append_message`` and ignores others; ``timestamp`` is
        Unix seconds or ISO 8601. The file gets the message as it is. ``skip_db``: the agent
        has already stored it.

        If the database cannot be reached for the moment and there is a file, the message is
        written there, a warning is logged, and the next call for this session sends it first.
        """
        return self._run(self._transcripts.append(session_id, message, skip_db))

    def rewrite_transcript(self, session_id: str, messages: Iterable[Mapping[str, Any]]) -> None:
        """Put these messages in the place of a session's transcript."""
        return self._run(self._transcripts.rewrite(session_id, messages))

    def load_transcript(self, session_id: str) -> list[dict[str, Any]]:
        """A session's messages as chat dicts: ``role``, ``content`` and what is not empty.

        A file that has more messages than the database is imported first, once.
        """
        return self._run(self._transcripts.load(session_id))
