"""The writes that a batch collects.

Generated from ``_sync.py`` by ``client/generate_async.py``: change it there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sessiond_client import _requests as plans
from sessiond_client._collection import Collection


class BatchCalls(Collection):
    """Collects writes; each returns its place."""

    def create_session(
        self,
        session_id: str,
        source: str,
        model: str | None = None,
        model_config: Mapping[str, Any] | None = None,
        system_prompt: str | None = None,
        user_id: str | None = None,
        parent_session_id: str | None = None,
    ) -> int:
        """Collect :meth:`SessionDB.create_session`; its place in ``results``."""
        return self._add(
            plans.create_session(
                session_id, source, model, model_config, system_prompt, user_id, parent_session_id
            )
        )

    def ensure_session(
        self, session_id: str, source: str = "unknown", model: str | None = None
    ) -> int:
        """Collect :meth:`SessionDB.ensure_session`; its place in ``results``."""
        return self._add(plans.ensure_session(session_id, source, model))

    def end_session(self, session_id: str, end_reason: str) -> int:
        """Collect :meth:`SessionDB.end_session`; its place in ``results``."""
        return self._add(plans.end_session(session_id, end_reason))

    def reopen_session(self, session_id: str) -> int:
        """Collect :meth:`SessionDB.reopen_session`; its place in ``results``."""
        return self._add(plans.reopen_session(session_id))

    def update_system_prompt(self, session_id: str, system_prompt: str) -> int:
        """Collect :meth:`SessionDB.update_system_prompt`; its place in ``results``."""
        return self._add(plans.update_system_prompt(session_id, system_prompt))

    def delete_session(self, session_id: str) -> int:
        """Collect :meth:`SessionDB.delete_session`; its place in ``results``."""
        return self._add(plans.delete_session(session_id))

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
    ) -> int:
        """Collect :meth:`SessionDB.update_token_counts`; its place in ``results``."""
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
        return self._add(plans.update_token_counts(session_id, counts, absolute))

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
    ) -> int:
        """Collect :meth:`SessionDB.set_token_counts`; its place in ``results``."""
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
        )

    def set_session_title(self, session_id: str, title: str | None) -> int:
        """Collect :meth:`SessionDB.set_session_title`; its place in ``results``."""
        return self._add(plans.set_session_title(session_id, title))

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
        """Collect :meth:`SessionDB.append_message`; its place in ``results``."""
        message = plans.stored_message(
            role,
            content,
            tool_name,
            tool_calls,
            tool_call_id,
            token_count,
            finish_reason,
            reasoning,
            reasoning_details,
            codex_reasoning_items,
            timestamp,
            message_key,
        )
        return self._add(plans.append_message(session_id, message))

    def append_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> int:
        """Collect :meth:`SessionDB.append_messages`; its place in ``results``."""
        return self._add(plans.append_messages(session_id, messages))

    def replace_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> int:
        """Collect :meth:`SessionDB.replace_messages`; its place in ``results``."""
        return self._add(plans.replace_messages(session_id, messages))

    def clear_messages(self, session_id: str) -> int:
        """Collect :meth:`SessionDB.clear_messages`; its place in ``results``."""
        return self._add(plans.clear_messages(session_id))
