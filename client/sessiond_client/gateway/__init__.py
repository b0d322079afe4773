"""The session layer of a chat gateway: which conversation a message belongs to.

Sources and their session keys, when a conversation is stale, what the agent is told about where
it is, and the files that older tools read.
"""

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

__all__ = [
    "GatewayConfig",
    "HomeChannel",
    "Platform",
    "PlatformConfig",
    "SessionConfig",
    "SessionContext",
    "SessionEntry",
    "SessionResetPolicy",
    "SessionSource",
    "build_session_context",
    "build_session_context_prompt",
    "build_session_key",
    "is_shared_multi_user_session",
]
