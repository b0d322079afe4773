"""Session keys: which conversation a message belongs to.

The format is fixed, because stored keys must go on matching, and ids are not escaped. Two
different conversations therefore share a key in two cases: an id contains ``:``, or they have
different kinds of ids (a direct chat without chat id in thread 7 and the direct chat 7).
"""

from typing import Final

from sessiond_client.gateway.source import SessionSource

PREFIX: Final = "agent:main"


def _participant(source: SessionSource) -> str | None:
    return source.user_id_alt or source.user_id


def build_session_key(source: SessionSource, group_sessions_per_user: bool = True) -> str:
    """The key of the conversation that ``source`` belongs to; the same source, the same key.

    In groups, channels and threads each person has a conversation of their own, unless
    ``group_sessions_per_user`` is false or nobody is named.
    """
    parts: list[str | None]
    if source.chat_type == "dm":
        kind = "dm"
        parts = [source.chat_id, source.thread_id]
        if not any(parts):
            # Without this all direct chats of such a platform would be one conversation.
            parts = [_participant(source)]
    else:
        kind = source.chat_type
        parts = [source.chat_id, source.thread_id]
        if group_sessions_per_user:
            parts.append(_participant(source))
    return ":".join([PREFIX, source.platform.value, kind, *(part for part in parts if part)])


def is_shared_multi_user_session(
    source: SessionSource, group_sessions_per_user: bool = True
) -> bool:
    """Whether several people write into the one conversation that ``source`` belongs to."""
    if source.chat_type == "dm":
        return False
    return not (group_sessions_per_user and _participant(source))
