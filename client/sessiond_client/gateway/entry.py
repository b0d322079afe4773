"""What a session key points at now."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sessiond_client.gateway import _fields
from sessiond_client.gateway.config import Platform
from sessiond_client.gateway.source import SessionSource

log = logging.getLogger(__name__)

COUNTERS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "total_tokens",
)


def local_datetime(seconds: float) -> datetime:
    """Unix seconds as the naive local time that entries show to their callers."""
    return datetime.fromtimestamp(seconds)


def unix_seconds(moment: datetime) -> float:
    """The instant of an entry's datetime; a naive one is local time, its ``fold`` honoured."""
    return moment.timestamp()


@dataclass(slots=True)
class SessionEntry:
    """The current session of a key, with its counters.

    Datetimes are naive local time. The three reset fields are for the first caller after an
    automatic reset: ``auto_reset_reason`` is ``idle`` or ``daily``.

    An origin or a platform that this version cannot read is None here, and kept in
    ``raw_origin`` or ``raw_platform``, so that saving the entry does not erase it.
    """

    session_key: str
    session_id: str
    created_at: datetime
    updated_at: datetime
    origin: SessionSource | None = None
    display_name: str | None = None
    platform: Platform | None = None
    chat_type: str = "dm"
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    total_tokens: int = 0
    estimated_cost_usd: float = 0.0
    cost_status: str = "unknown"
    last_prompt_tokens: int = 0
    was_auto_reset: bool = False
    auto_reset_reason: str | None = None
    reset_had_activity: bool = False
    raw_origin: Any = field(default=None, kw_only=True, repr=False)
    raw_platform: Any = field(default=None, kw_only=True, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON values, its times in ISO 8601; ``origin`` only if there is one."""
        return {
            "session_key": self.session_key,
            "session_id": self.session_id,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            **self._state(),
        }

    def to_record(self) -> dict[str, Any]:
        """As ``to_dict``, but with times in Unix seconds: what a store keeps.

        Unlike local time these do not depend on the zone of the process that wrote them.
        """
        return {
            "session_key": self.session_key,
            "session_id": self.session_id,
            "created_at": unix_seconds(self.created_at),
            "updated_at": unix_seconds(self.updated_at),
            **self._state(),
        }

    def _state(self) -> dict[str, Any]:
        origin = self.origin.to_dict() if self.origin else self.raw_origin
        return {
            **({} if origin is None else {"origin": origin}),
            "display_name": self.display_name,
            "platform": self.platform.value if self.platform else self.raw_platform,
            "chat_type": self.chat_type,
            **{name: getattr(self, name) for name in COUNTERS},
            "last_prompt_tokens": self.last_prompt_tokens,
            "estimated_cost_usd": self.estimated_cost_usd,
            "cost_status": self.cost_status,
            "was_auto_reset": self.was_auto_reset,
            "auto_reset_reason": self.auto_reset_reason,
            "reset_had_activity": self.reset_had_activity,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SessionEntry":
        """Read what ``to_dict`` or ``to_record`` wrote.

        Raises ``ValueError`` naming the field if the key, the session id or a time is missing,
        or a value is of the wrong kind. Unknown keys are ignored.
        """
        origin, raw_origin = _origin(data.get("origin"))
        platform, raw_platform = _platform(data.get("platform"))
        return cls(
            session_key=_fields.required(data, "session_key"),
            session_id=_fields.required(data, "session_id"),
            created_at=_moment(data, "created_at"),
            updated_at=_moment(data, "updated_at"),
            origin=origin,
            display_name=_fields.text(data, "display_name", None),
            platform=platform,
            chat_type=_fields.text(data, "chat_type", "dm"),
            **{name: _fields.whole(data, name, 0) for name in COUNTERS},
            estimated_cost_usd=_fields.number(data, "estimated_cost_usd", 0.0),
            cost_status=_fields.text(data, "cost_status", "unknown"),
            last_prompt_tokens=_fields.whole(data, "last_prompt_tokens", 0),
            was_auto_reset=_fields.flag(data, "was_auto_reset", False),
            auto_reset_reason=_fields.text(data, "auto_reset_reason", None),
            reset_had_activity=_fields.flag(data, "reset_had_activity", False),
            raw_origin=raw_origin,
            raw_platform=raw_platform,
        )


def _moment(data: Mapping[str, Any], name: str) -> datetime:
    """A stored time as naive local time; what is stored is ISO 8601 or Unix seconds."""
    value = data.get(name)
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            seconds = moment.timestamp()  # every time must be storable: year 1 is not
            return moment if moment.tzinfo is None else local_datetime(seconds)
        if _fields.is_number(value):
            return local_datetime(value)
    except (ValueError, OverflowError, OSError) as exc:
        raise _fields.refusal(name, value, "a time in ISO 8601 or Unix seconds") from exc
    raise _fields.refusal(name, value, "a time in ISO 8601 or Unix seconds")


def _origin(value: Any) -> tuple[SessionSource | None, Any]:
    if value is None:
        return None, None
    try:
        return SessionSource.from_dict(_fields.mapping(value, "origin")), None
    except ValueError as exc:
        log.debug("origin cannot be read, kept as it is: %s", exc)
        return None, value


def _platform(value: Any) -> tuple[Platform | None, Any]:
    if value is None:
        return None, None
    try:
        return Platform(value), None
    except ValueError:
        log.debug("platform %r is not known, kept as it is", value)
        return None, value
