"""``SessionDB``: the blocking client. Public methods only; see ``_blocking.py`` for the rest.

``_async.py`` and ``_batch_calls.py`` are generated from this file: change it here, then run
``python client/generate_async.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sessiond_client import _jobs as jobs
from sessiond_client import _requests as plans
from sessiond_client._batch import Batch
from sessiond_client._blocking import BlockingStore
from sessiond_client._watching import Watching
from sessiond_protocol.titles import MAX_TITLE_LENGTH, sanitize_title

if TYPE_CHECKING:
    from concurrent.futures import Future

Dict = dict[str, Any]


class SessionDB(BlockingStore):
    """An agent's conversations, stored by the daemon that owns the database file.

    ``db_path``: the database; by default ``SESSIOND_DATABASE``, else ``state.db`` in
    ``HERMES_HOME``, else ``~/.hermes/state.db``. ``pool_size``, ``batch_size``,
    ``batch_wait_ms`` and ``enable_batching`` are settings for a daemon that this object starts.
    ``socket``: where the daemon listens, if not at the usual place. ``reads``: ``direct`` reads
    the file itself, ``daemon`` asks the daemon, ``auto`` does what works. ``autostart``: start
    the daemon when none answers. ``timeout``: seconds a call may take, at most 1800; a prune, an
    export or a long transcript is several requests, and each of them may take so long.

    Making an object starts nothing; its first call does. An answered write is on disk. Objects
    for one database in one process share a connection, which no other process can use;
    any number of threads may use one object. Usable as a context manager.
    """

    MAX_TITLE_LENGTH = MAX_TITLE_LENGTH

    # --- sessions --------------------------------------------------------------------------

    def create_session(
        self,
        session_id: str,
        source: str,
        model: str | None = None,
        model_config: Mapping[str, Any] | None = None,
        system_prompt: str | None = None,
        user_id: str | None = None,
        parent_session_id: str | None = None,
    ) -> str:
        """Insert a session and return its id.

        On an existing id this fills columns that are still unset and changes nothing else; a
        stored source ``unknown`` counts as unset. ``model_config`` is stored as JSON. Raises
        ``sqlite3.IntegrityError`` if the parent does not exist.
        """
        return self._run(
            plans.create_session(
                session_id, source, model, model_config, system_prompt, user_id, parent_session_id
            )
        )

    def ensure_session(
        self, session_id: str, source: str = "unknown", model: str | None = None
    ) -> None:
        """Make sure that a session exists; never change an existing one."""
        return self._run(plans.ensure_session(session_id, source, model))

    def end_session(self, session_id: str, end_reason: str) -> None:
        """End a session that has not ended yet. The first reason stays until it is reopened."""
        return self._run(plans.end_session(session_id, end_reason))

    def reopen_session(self, session_id: str) -> None:
        """Clear a session's end."""
        return self._run(plans.reopen_session(session_id))

    def update_system_prompt(self, session_id: str, system_prompt: str) -> None:
        """Store the assembled system prompt."""
        return self._run(plans.update_system_prompt(session_id, system_prompt))

    def get_session(self, session_id: str) -> Dict | None:
        """All columns of a session, or None."""
        return self._run(plans.get_session(session_id))

    def resolve_session_id(self, session_id_or_prefix: str) -> str | None:
        """The full id for an id, or for a prefix that only one session has; else None."""
        return self._run(plans.resolve_session_id(session_id_or_prefix))

    def delete_session(self, session_id: str) -> bool:
        """Delete a session and its messages; True if it existed. Children become orphans."""
        return self._run(plans.delete_session(session_id))

    def prune_sessions(self, older_than_days: float = 90, source: str | None = None) -> int:
        """Delete ended sessions that started longer ago than this; how many were deleted.

        Done in slices, so that other clients' writes go on in between.
        """
        return self._run(plans.prune_sessions(older_than_days, source))

    # --- tokens ----------------------------------------------------------------------------

    def update_token_counts(
        self,
        session_id: str,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str | None = None,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        estimated_cost_usd: float | None = None,
        actual_cost_usd: float | None = None,
        cost_status: str | None = None,
        cost_source: str | None = None,
        pricing_version: str | None = None,
        billing_provider: str | None = None,
        billing_base_url: str | None = None,
        billing_mode: str | None = None,
        absolute: bool = False,
        *,
        wait: bool = True,
    ) -> None:
        """Add to a session's token counters and costs, or set them with ``absolute``.

        A session that does not exist is created. Costs are US dollars; one that is None is
        kept. ``cost_*`` and ``pricing_version`` overwrite when given; ``billing_*`` and
        ``model`` are filled in only while unset.

        With ``wait=False`` this returns at once. What is added to one session is sent as one
        request, after 50 ms or before this object reads, flushes or closes, or writes to the
        session in any other way. A failure is raised by the next call, or by :meth:`flush`.
        """
        counts = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "model": model,
            "cache_read_tokens": cache_read_tokens,
            "cache_write_tokens": cache_write_tokens,
            "reasoning_tokens": reasoning_tokens,
            "estimated_cost_usd": estimated_cost_usd,
            "actual_cost_usd": actual_cost_usd,
            "cost_status": cost_status,
            "cost_source": cost_source,
            "pricing_version": pricing_version,
            "billing_provider": billing_provider,
            "billing_base_url": billing_base_url,
            "billing_mode": billing_mode,
        }
        if not wait:
            return self._count(plans.token_request(session_id, counts, absolute))
        return self._run(plans.update_token_counts(session_id, counts, absolute))

    def set_token_counts(
        self,
        session_id: str,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str | None = None,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        estimated_cost_usd: float | None = None,
        actual_cost_usd: float | None = None,
        cost_status: str | None = None,
        cost_source: str | None = None,
        pricing_version: str | None = None,
        billing_provider: str | None = None,
        billing_base_url: str | None = None,
        billing_mode: str | None = None,
        absolute: bool = True,
        *,
        wait: bool = True,
    ) -> None:
        """Set a session's token counters: ``update_token_counts`` with ``absolute=True``."""
        return self.update_token_counts(
            session_id,
            input_tokens,
            output_tokens,
            model,
            cache_read_tokens,
            cache_write_tokens,
            reasoning_tokens,
            estimated_cost_usd,
            actual_cost_usd,
            cost_status,
            cost_source,
            pricing_version,
            billing_provider,
            billing_base_url,
            billing_mode,
            absolute,
            wait=wait,
        )

    # --- titles ----------------------------------------------------------------------------

    @staticmethod
    def sanitize_title(title: str | None) -> str | None:
        """A title without control and invisible characters, its whitespace collapsed.

        None for a blank one; ``ValueError`` if more than 100 characters are left.
        """
        return sanitize_title(title)

    def set_session_title(self, session_id: str, title: str | None) -> bool:
        """Set a cleaned title, None clears it; True if the session exists.

        Raises ``ValueError`` naming the session that already has this title.
        """
        return self._run(plans.set_session_title(session_id, title))

    def get_session_title(self, session_id: str) -> str | None:
        """A session's title, or None."""
        return self._run(plans.get_session_title(session_id))

    def get_session_by_title(self, title: str) -> Dict | None:
        """The session with exactly this title, or None."""
        return self._run(plans.get_session_by_title(title))

    def resolve_session_by_title(self, title: str) -> str | None:
        """The highest numbered continuation ``title #N``, else the exact match, else None."""
        return self._run(plans.resolve_session_by_title(title))

    def get_next_title_in_lineage(self, base_title: str) -> str:
        """The next free ``title #N`` of a lineage; the base itself if nobody has it yet."""
        return self._run(plans.get_next_title_in_lineage(base_title))

    # --- messages --------------------------------------------------------------------------

    def append_message(
        self,
        session_id: str,
        role: str,
        content: Any = None,
        tool_name: str | None = None,
        tool_calls: Any = None,
        tool_call_id: str | None = None,
        token_count: int | None = None,
        finish_reason: str | None = None,
        reasoning: str | None = None,
        reasoning_details: Any = None,
        codex_reasoning_items: Any = None,
        timestamp: float | None = None,
        *,
        message_key: str | None = None,
    ) -> int:
        """Store one message and return its id, once it is on disk.

        ``content`` is text, None, or structured content (a list of parts, a dict), which comes
        back as it is. ``timestamp`` is Unix seconds, now by default. A second append with the
        same ``message_key`` in the same session stores nothing and returns the first one's id.
        Raises ``sqlite3.IntegrityError`` if the session does not exist.
        """
        message = plans.stored_message(
            role, content, tool_name, tool_calls, tool_call_id, token_count, finish_reason,
            reasoning, reasoning_details, codex_reasoning_items, timestamp, message_key,
        )  # fmt: skip
        return self._run(plans.append_message(session_id, message))

    def append_message_nowait(
        self,
        session_id: str,
        role: str,
        content: Any = None,
        tool_name: str | None = None,
        tool_calls: Any = None,
        tool_call_id: str | None = None,
        token_count: int | None = None,
        finish_reason: str | None = None,
        reasoning: str | None = None,
        reasoning_details: Any = None,
        codex_reasoning_items: Any = None,
        timestamp: float | None = None,
        *,
        message_key: str | None = None,
    ) -> Future[int]:
        """Like :meth:`append_message`, but returns at once with a future of the id.

        Many may be on their way; they are stored in the order of the calls. The errors of
        :meth:`append_message` are the future's, except for arguments that cannot be stored.
        """
        message = plans.stored_message(
            role, content, tool_name, tool_calls, tool_call_id, token_count, finish_reason,
            reasoning, reasoning_details, codex_reasoning_items, timestamp, message_key,
        )  # fmt: skip
        return self._later(plans.append_request(session_id, message))

    def append_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Store several messages, all or none; their ids. Keys as in :meth:`append_message`."""
        return self._run(plans.append_messages(session_id, messages))

    def replace_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> int:
        """Put these messages in the place of a session's transcript; how many were stored.

        A failure leaves the old transcript as it was.
        """
        return self._run(plans.replace_messages(session_id, messages))

    def get_messages(
        self, session_id: str, limit: int | None = None, offset: int = 0
    ) -> list[Dict]:
        """A session's messages in the order they were stored, all columns, JSON decoded."""
        return self._run(plans.get_messages(session_id, limit, offset))

    def get_messages_as_conversation(self, session_id: str) -> list[Dict]:
        """A session's messages as chat dicts: ``role``, ``content`` and what is not empty."""
        return self._run(plans.get_messages_as_conversation(session_id))

    def clear_messages(self, session_id: str) -> None:
        """Delete a session's messages and zero its counters."""
        return self._run(plans.clear_messages(session_id))

    def message_count(self, session_id: str | None = None) -> int:
        """How many messages a session has, or all sessions together."""
        return self._run(plans.message_count(session_id))

    def session_count(self, source: str | None = None) -> int:
        """How many sessions there are, of one source or of all."""
        return self._run(plans.session_count(source))

    def batch(self) -> Batch:
        """A context manager that collects writes and sends them as one request, all or none.

        It has the writes of this class, which return their place in ``results``. At the end of
        the block they are stored as one unit; then ``results`` holds what each of them returns.
        The error of one that fails names it. A block that ends with an exception, and an empty
        one, send nothing.
        """
        self._check_open()
        return Batch(self)

    # --- search, lists, export -------------------------------------------------------------

    def search_messages(
        self,
        query: str,
        source_filter: Sequence[str] | None = None,
        exclude_sources: Sequence[str] | None = None,
        role_filter: Sequence[str] | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> list[Dict]:
        """Messages that match, best first.

        Words must all match; ``"a phrase"``, ``OR``, ``NOT``, ``AND`` and ``prefix*`` work, and
        everything else is literal text. Each hit has ``id, session_id, role, snippet,
        timestamp, tool_name, source, model, session_started, context``; ``>>>`` and ``<<<``
        mark matches in ``snippet``; ``context`` is the message before, the match and the
        message after in the same session.
        """
        return self._run(
            plans.search_messages(query, source_filter, exclude_sources, role_filter, limit, offset)
        )

    def search_sessions(
        self, source: str | None = None, limit: int = 20, offset: int = 0
    ) -> list[Dict]:
        """Sessions, newest first."""
        return self._run(plans.search_sessions(source, limit, offset))

    def list_sessions_rich(
        self,
        source: str | None = None,
        exclude_sources: Sequence[str] | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> list[Dict]:
        """Sessions, newest first, each with ``preview`` and ``last_active``."""
        return self._run(plans.list_sessions_rich(source, exclude_sources, limit, offset))

    def export_session(self, session_id: str) -> Dict | None:
        """A session with its ``messages``, or None."""
        return self._run(plans.export_session(session_id))

    def export_all(self, source: str | None = None) -> list[Dict]:
        """Every session with its ``messages``."""
        return self._run(plans.export_all(source))

    def iter_export(self, source: str | None = None) -> Iterator[Dict]:
        """Every session with its ``messages``, one by one, in bounded memory."""
        self._check_open()
        return self._exported(source)

    def _exported(self, source: str | None) -> Iterator[Dict]:
        after: tuple[float, str] | None = None
        while page := self._run(plans.export_page(source, after)):
            for each in page:
                each["messages"] = self._run(plans.get_messages(each["id"], None, 0))
                yield each
            after = plans.page_key(page)

    # --- the daemon ------------------------------------------------------------------------

    def get_stats(self) -> Dict:
        """The daemon's counters and states."""
        return self._run(plans.get_stats())

    def get_change_counter(self) -> Any:
        """A value that differs after any commit of the daemon."""
        return self._run(plans.get_change_counter())

    def backup(
        self, path: str | os.PathLike[str], *, progress: jobs.Progress | None = None
    ) -> Dict:
        """Have the daemon copy the database, while it is in use, into a new file.

        Everything answered before the call is in the copy, which is verified and on disk when
        this returns: ``path``, ``bytes``, ``sessions``, ``messages``, ``seconds``, ``restarts``
        and ``findings``, what is wrong with the search indexes in it. The file must not exist
        yet; a relative path counts from this program's working directory.

        ``progress`` is called with the job's state, a dict with ``step``, ``fraction`` (None
        while it is not known) and others, whenever it changes. This takes as long as it takes:
        ``timeout`` bounds only how long the daemon may be silent. If the caller goes away, the
        daemon goes on. Raises :class:`~sessiond_client.Conflict` while another backup runs, and
        :class:`~sessiond_client.ShuttingDown` if the daemon ended meanwhile.
        """
        return self._run(jobs.backup(path, progress))

    def restore(
        self, path: str | os.PathLike[str], *, progress: jobs.Progress | None = None
    ) -> Dict:
        """Have the daemon put a copy of a backup into the database's place.

        The backup is checked first and never changed. Everybody who writes waits while it is
        copied. Returns ``path``, ``kept`` (where the database before is), ``generation``,
        ``from_version`` and ``version`` of the schema, ``sessions``, ``messages`` and
        ``seconds``. After a failure the database is as it was.

        Afterwards the database has a new generation and all connections are made anew. Writes
        without an answer end as :class:`~sessiond_client.OutcomeUnknown`, on every client;
        whoever watches gets ``feed_reset``. For ``progress`` and errors see :meth:`backup`; a
        file that cannot be restored is :class:`~sessiond_client.InvalidParams`.
        """
        return self._run(jobs.restore(path, progress))

    def check(
        self, *, now: bool = False, repair: bool = False, progress: jobs.Progress | None = None
    ) -> Dict:
        """Have the daemon look whether everything in the database is as it should be.

        It looks at a copy, which needs room beside the database; with ``now`` at the file
        itself, whose write-ahead log grows meanwhile. ``repair`` mends what can be made again:
        counters, indexes, side tables. Returns ``sound``, ``findings`` (a list of dicts with
        ``kind`` and ``detail``, at most 100 of a kind), ``counts`` by kind, ``skipped`` (what
        was not looked at, and why), ``repaired`` (kinds) and ``seconds``. ``progress`` and
        errors as in :meth:`backup`.
        """
        return self._run(jobs.check(now, repair, progress))

    def vacuum(self, *, progress: jobs.Progress | None = None) -> Dict:
        """Have the daemon write the database anew, without free pages; others wait meanwhile.

        Returns ``bytes_before``, ``bytes_after`` and ``seconds``. ``progress`` and errors as in
        :meth:`backup`; besides, :class:`~sessiond_client.Conflict` while any other job runs.
        """
        return self._run(jobs.vacuum(progress))

    def checkpoint(self) -> Dict:
        """Have the daemon empty the write-ahead log, if no reader holds it.

        Returns ``busy``, ``log`` and ``checkpointed`` (pages), and ``held_by``, who reads
        through the log if that was in the way.
        """
        return self._run(jobs.checkpoint())

    def rebuild_index(self, *, progress: jobs.Progress | None = None) -> Dict:
        """Have the daemon make the search index anew; returns when it is whole.

        Returns ``rebuilt`` (the indexes) and ``seconds``. Searches find everything meanwhile.
        ``progress`` and errors as in :meth:`backup`.
        """
        return self._run(jobs.rebuild_index(progress))

    def watch(self, session_id: str | None = None, after: int | None = None) -> Watching:
        """What is committed, of one session or of all, as it happens.

        Yields :class:`~sessiond_client.Event` objects: messages (``kind`` is ``message``) in the
        order of their ids, from those after the id ``after`` on, by default from now on; and
        what happens to sessions. Goes on across lost connections and restarts of the daemon,
        without a gap or a repeat. Ends when its ``close`` is called.
        """
        return self._watch(session_id, after)

    def request_status(self, client_id: bytes, seq: int) -> str:
        """What became of a write: ``applied``, ``failed``, ``not_applied`` or ``unknown``.

        The arguments are those of an :class:`~sessiond_client.OutcomeUnknown`'s ``data``.
        """
        return self._run(plans.request_status(client_id, seq))
