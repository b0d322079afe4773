"""Where a message came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sessiond_client.gateway import _fields
from sessiond_client.gateway.config import Platform


@dataclass(slots=True)
class SessionSource:
    """The chat, person and thread behind a message, in the platform's own ids.

    ``chat_type`` is ``dm``, ``group``, ``channel`` or ``thread``. The two ``_alt`` ids are the
    steadier ones that some platforms have besides the usual ones (Signal's UUID, for instance).
    """

    platform: Platform
    chat_id: str
    chat_name: str | None = None
    chat_type: str = "dm"
    user_id: str | None = None
    user_name: str | None = None
    thread_id: str | None = None
    chat_topic: str | None = None
    user_id_alt: str | None = None
    chat_id_alt: str | None = None

    @property
    def description(self) -> str:
        """The source in a few words, for people: ``DM with Anna``, ``group: Ops, thread: 7``."""
        if self.platform == Platform.LOCAL:
            return "CLI terminal"
        if self.chat_type == "dm":
            place = f"DM with {self.user_name or self.user_id or 'user'}"
        elif self.chat_type in ("group", "channel"):
            place = f"{self.chat_type}: {self.chat_name or self.chat_id}"
        else:
            place = self.chat_name or self.chat_id
        return f"{place}, thread: {self.thread_id}" if self.thread_id else place

    @classmethod
    def local_cli(cls) -> "SessionSource":
        """The source of what is typed on the machine itself."""
        return cls(Platform.LOCAL, "cli", chat_name="CLI terminal", chat_type="dm")

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "platform": self.platform.value,
            "chat_id": self.chat_id,
            "chat_name": self.chat_name,
            "chat_type": self.chat_type,
            "user_id": self.user_id,
            "user_name": self.user_name,
            "thread_id": self.thread_id,
            "chat_topic": self.chat_topic,
        }
        if self.user_id_alt:
            data["user_id_alt"] = self.user_id_alt
        if self.chat_id_alt:
            data["chat_id_alt"] = self.chat_id_alt
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SessionSource":
        """Ids become text, an absent ``chat_id`` the empty text.

        Raises ``ValueError`` for an unknown platform or a field of the wrong kind.
        """
        return cls(
            platform=_fields.member(Platform, data.get("platform"), "platform"),
            chat_id=_fields.identifier(data, "chat_id", ""),
            chat_name=_fields.text(data, "chat_name", None),
            chat_type=_fields.text(data, "chat_type", "dm"),
            user_id=_fields.identifier(data, "user_id", None),
            user_name=_fields.text(data, "user_name", None),
            thread_id=_fields.identifier(data, "thread_id", None),
            chat_topic=_fields.text(data, "chat_topic", None),
            user_id_alt=_fields.identifier(data, "user_id_alt", None),
            chat_id_alt=_fields.identifier(data, "chat_id_alt", None),
        )
