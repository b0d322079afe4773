"""What a gateway is configured with: platforms, home channels, when sessions go stale.

Every class has ``to_dict()`` and ``from_dict()`` with the field names as keys and platforms as
their text values. In ``from_dict`` an explicit null means the default and unknown keys are
ignored, among them platforms this version does not know.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

from sessiond_client.gateway import _fields

log = logging.getLogger(__name__)


class Platform(StrEnum):
    """Where a message can come from and where an answer can go."""

    LOCAL = "local"
    TELEGRAM = "telegram"
    DISCORD = "discord"
    WHATSAPP = "whatsapp"
    SLACK = "slack"
    SIGNAL = "signal"
    MATTERMOST = "mattermost"
    MATRIX = "matrix"
    HOMEASSISTANT = "homeassistant"
    EMAIL = "email"
    SMS = "sms"
    DINGTALK = "dingtalk"
    API_SERVER = "api_server"
    WEBHOOK = "webhook"
    FEISHU = "feishu"
    WECOM = "wecom"
    WEIXIN = "weixin"
    BLUEBUBBLES = "bluebubbles"
    QQBOT = "qqbot"


@dataclass(frozen=True, slots=True)
class HomeChannel:
    """The chat of a platform that gets what nobody asked for in a chat: task output, notices."""

    platform: Platform
    chat_id: str
    name: str

    def to_dict(self) -> dict[str, Any]:
        return {"platform": self.platform.value, "chat_id": self.chat_id, "name": self.name}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "HomeChannel":
        """Raises ``ValueError`` for an unknown platform or a missing chat id."""
        return cls(
            platform=_fields.member(Platform, data.get("platform"), "platform"),
            chat_id=_fields.required(data, "chat_id"),
            name=_fields.text(data, "name", "Home"),
        )


RESET_MODES: Final = ("daily", "idle", "both", "none")


@dataclass(frozen=True, slots=True)
class SessionResetPolicy:
    """When a session goes stale.

    ``mode``: ``daily`` (at ``at_hour``, local wall time, 0 to 23), ``idle`` (more than
    ``idle_minutes`` after the last message), ``both`` or ``none``. Anything else is a
    ``ValueError``.
    """

    mode: str = "both"
    at_hour: int = 4
    idle_minutes: float = 1440

    def __post_init__(self) -> None:
        if self.mode not in RESET_MODES:
            raise _fields.refusal("mode", self.mode, f"one of {', '.join(RESET_MODES)}")
        if not _fields.is_whole(self.at_hour) or not 0 <= self.at_hour <= 23:
            raise _fields.refusal("at_hour", self.at_hour, "a whole number from 0 to 23")
        if not _fields.is_number(self.idle_minutes) or self.idle_minutes < 0:
            raise _fields.refusal("idle_minutes", self.idle_minutes, "a number from 0 up")

    def to_dict(self) -> dict[str, Any]:
        return {"mode": self.mode, "at_hour": self.at_hour, "idle_minutes": self.idle_minutes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SessionResetPolicy":
        return cls(
            mode=_fields.text(data, "mode", "both"),
            at_hour=_fields.whole(data, "at_hour", 4),
            idle_minutes=_fields.number(data, "idle_minutes", 1440),
        )


@dataclass(slots=True)
class PlatformConfig:
    """One platform's settings; ``extra`` is for the adapter and passed through untouched."""

    enabled: bool = False
    home_channel: HomeChannel | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "enabled": self.enabled,
            "home_channel": self.home_channel.to_dict() if self.home_channel else None,
            "extra": dict(self.extra),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PlatformConfig":
        home = data.get("home_channel")
        return cls(
            enabled=_fields.flag(data, "enabled", False),
            home_channel=(
                None
                if home is None
                else HomeChannel.from_dict(_fields.mapping(home, "home_channel"))
            ),
            extra=dict(_fields.mapping(data.get("extra"), "extra")),
        )


class SessionConfig(Protocol):
    """All that the session layer needs of a configuration; any object that has it will do."""

    @property
    def group_sessions_per_user(self) -> bool: ...

    def get_connected_platforms(self) -> Sequence[Platform]: ...

    def get_home_channel(self, platform: Platform, /) -> HomeChannel | None: ...

    def get_reset_policy(self, platform: Platform, session_type: str, /) -> SessionResetPolicy: ...


@dataclass(slots=True)
class GatewayConfig:
    """A gateway's configuration. A policy for a platform wins over one for a chat type."""

    platforms: dict[Platform, PlatformConfig] = field(default_factory=dict)
    default_reset_policy: SessionResetPolicy = field(default_factory=SessionResetPolicy)
    reset_by_type: dict[str, SessionResetPolicy] = field(default_factory=dict)
    reset_by_platform: dict[Platform, SessionResetPolicy] = field(default_factory=dict)
    group_sessions_per_user: bool = True

    def get_connected_platforms(self) -> list[Platform]:
        """The enabled platforms, in the order they were configured."""
        return [platform for platform, config in self.platforms.items() if config.enabled]

    def get_home_channel(self, platform: Platform) -> HomeChannel | None:
        config = self.platforms.get(platform)
        return config.home_channel if config else None

    def get_reset_policy(
        self, platform: Platform | None = None, session_type: str | None = None
    ) -> SessionResetPolicy:
        """The platform's policy, else the chat type's, else the default."""
        if platform is not None and platform in self.reset_by_platform:
            return self.reset_by_platform[platform]
        if session_type is not None and session_type in self.reset_by_type:
            return self.reset_by_type[session_type]
        return self.default_reset_policy

    def to_dict(self) -> dict[str, Any]:
        return {
            "platforms": {each.value: config.to_dict() for each, config in self.platforms.items()},
            "default_reset_policy": self.default_reset_policy.to_dict(),
            "reset_by_type": {
                each: policy.to_dict() for each, policy in self.reset_by_type.items()
            },
            "reset_by_platform": {
                each.value: policy.to_dict() for each, policy in self.reset_by_platform.items()
            },
            "group_sessions_per_user": self.group_sessions_per_user,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "GatewayConfig":
        """Raises ``ValueError`` for values that are not allowed, never for unknown keys."""
        by_type = _fields.mapping(data.get("reset_by_type"), "reset_by_type")
        return cls(
            platforms={
                platform: PlatformConfig.from_dict(value)
                for platform, value in _by_platform(data, "platforms")
            },
            default_reset_policy=SessionResetPolicy.from_dict(
                _fields.mapping(data.get("default_reset_policy"), "default_reset_policy")
            ),
            reset_by_type={
                name: SessionResetPolicy.from_dict(_fields.mapping(value, f"reset_by_type.{name}"))
                for name, value in by_type.items()
                if value is not None
            },
            reset_by_platform={
                platform: SessionResetPolicy.from_dict(value)
                for platform, value in _by_platform(data, "reset_by_platform")
            },
            group_sessions_per_user=_fields.flag(data, "group_sessions_per_user", True),
        )


def _by_platform(
    data: Mapping[str, Any], name: str
) -> Iterator[tuple[Platform, Mapping[str, Any]]]:
    """The known platforms of an object keyed by platform; a null counts as not configured."""
    for key, value in _fields.mapping(data.get(name), name).items():
        try:
            platform = Platform(key)
        except ValueError:
            log.debug("%s: platform %r is not known, ignored", name, key)
            continue
        if value is not None:
            yield platform, _fields.mapping(value, f"{name}.{key}")
