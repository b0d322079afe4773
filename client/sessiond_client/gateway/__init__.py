"""The session layer of a chat gateway: which conversation a message belongs to.

Sources and their session keys, when a conversation is stale, what the agent is told about where
it is, and two stores over all of it. ``AsyncSessionStore`` is loaded when it is read.
"""

from typing import TYPE_CHECKING, Any

from sessiond_client.gateway.config import (
    GatewayConfig,
    HomeChannel,
    Platform,
    PlatformConfig,
    SessionConfig,
    SessionResetPolicy,
)
from sessiond_client.gateway.context import SessionContext, build_session_context
from sessiond_client.gateway.entry import SessionEntry
from sessiond_client.gateway.keys import build_session_key, is_shared_multi_user_session
from sessiond_client.gateway.prompt import build_session_context_prompt
from sessiond_client.gateway.source import SessionSource
from sessiond_client.gateway.store import SessionStore

if TYPE_CHECKING:
    from sessiond_client.gateway.async_store import AsyncSessionStore

__all__ = [
    "AsyncSessionStore",
    "GatewayConfig",
    "HomeChannel",
    "Platform",
    "PlatformConfig",
    "SessionConfig",
    "SessionContext",
    "SessionEntry",
    "SessionResetPolicy",
    "SessionSource",
    "SessionStore",
    "build_session_context",
    "build_session_context_prompt",
    "build_session_key",
    "is_shared_multi_user_session",
]


def __getattr__(name: str) -> Any:
    if name == "AsyncSessionStore":
        from sessiond_client.gateway.async_store import AsyncSessionStore

        globals()[name] = AsyncSessionStore  # found without this function from now on
        return AsyncSessionStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
