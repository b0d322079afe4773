"""What an agent is told about the conversation it takes part in, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sessiond_client.gateway.config import HomeChannel, Platform, SessionConfig
from sessiond_client.gateway.entry import SessionEntry
from sessiond_client.gateway.source import SessionSource


@dataclass(slots=True)
class SessionContext:
    """The source of the present message, and where answers can be delivered."""

    source: SessionSource
    connected_platforms: list[Platform]
    home_channels: Mapping[Platform, HomeChannel]
    session_key: str = ""
    session_id: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: platforms as text, times in ISO 8601."""
        return {
            "source": self.source.to_dict(),
            "connected_platforms": [platform.value for platform in self.connected_platforms],
            "home_channels": {
                platform.value: home.to_dict() for platform, home in self.home_channels.items()
            },
            "session_key": self.session_key,
            "session_id": self.session_id,
            "created_at": self.created_at.isoformat() if self.created_at else None,
            "updated_at": self.updated_at.isoformat() if self.updated_at else None,
        }


def build_session_context(
    source: SessionSource, config: SessionConfig, session_entry: SessionEntry | None = None
) -> SessionContext:
    """The context of a message from ``source``; key, id and times are ``session_entry``'s."""
    connected = list(config.get_connected_platforms())
    homes = {each: home for each in connected if (home := config.get_home_channel(each))}
    context = SessionContext(source, connected, homes)
    if session_entry is not None:
        context.session_key = session_entry.session_key
        context.session_id = session_entry.session_id
        context.created_at = session_entry.created_at
        context.updated_at = session_entry.updated_at
    return context
