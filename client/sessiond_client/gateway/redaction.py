"""What of a context may stand in a prompt: cleaned text, and hashes in place of ids.

Hashes are the first twelve hexadecimal digits of SHA-256, so that one person has the same one
in every prompt.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from sessiond_client.gateway.config import HomeChannel, Platform
from sessiond_client.gateway.context import SessionContext
from sessiond_client.gateway.source import SessionSource

# Elsewhere an answer needs the raw ids: Discord mentions people by them.
REDACTED_PLATFORMS: Final = frozenset({Platform.WHATSAPP, Platform.SIGNAL, Platform.TELEGRAM})

_PLATFORM_NAMES: Final = frozenset(platform.value for platform in Platform)

# Ids shorter than this occur in ordinary text by chance.
_TRACEABLE_LENGTH: Final = 8

# Controls, line and paragraph separators, and the marks that reorder what is displayed.
_BREAKS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LONE_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_PHONE: Final = re.compile(r"\+?[\d\s\-\u2010-\u2015\u2212]{7,}")


def one_line(text: str) -> str:
    """``text`` on one line that any encoder takes.

    It comes from strangers: with a line break in it, a chat's name could add a section to the
    prompt it is shown in.
    """
    return _LONE_SURROGATES.sub("\ufffd", _BREAKS.sub(" ", text)).strip()


def hash_id(value: str) -> str:
    """The first 12 hexadecimal digits of an id's SHA-256."""
    # Whatever an adapter made of undecodable bytes must still give a hash.
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def hash_user_id(value: str) -> str:
    """A user's id as the prompt shows it."""
    return f"user_{hash_id(value)}"


def hash_chat_id(value: str) -> str:
    """The hash of a chat's id; the platform's name before a colon is kept.

    Nothing but a platform's name is: in ``491701234567:3@s.whatsapp.net`` what stands before
    the colon is somebody's number.
    """
    prefix, bare = _split_chat_id(value)
    return f"{prefix}{hash_id(bare)}"


def _split_chat_id(value: str) -> tuple[str, str]:
    """A platform's name with its colon, or nothing, and the rest, which is the id."""
    prefix, colon, rest = value.partition(":")
    return (prefix + colon, rest) if rest and prefix in _PLATFORM_NAMES else ("", value)


def looks_like_phone_number(name: str) -> bool:
    """Whether a display name is a number: contacts without a name are shown by theirs."""
    # Contact books put invisible direction marks around numbers.
    visible = "".join(char for char in name if unicodedata.category(char) != "Cf").strip()
    return _PHONE.fullmatch(visible) is not None and any(char.isdigit() for char in visible)


@dataclass(frozen=True, slots=True)
class _Shown:
    """One way of showing the parts of a context; ``redact`` says which."""

    redact: bool
    source: SessionSource
    homes: tuple[HomeChannel, ...]

    def user_id(self, value: str) -> str:
        return hash_user_id(value) if self.redact else one_line(value)

    def chat_id(self, value: str) -> str:
        return hash_chat_id(value) if self.redact else one_line(value)

    def user_name(self, name: str) -> str:
        return hash_user_id(name) if self._is_id(name) else one_line(name)

    def chat_name(self, name: str) -> str:
        return hash_chat_id(name) if self._is_id(name) else one_line(name)

    def topic(self, topic: str) -> str:
        """A topic is free text: the ids of this context are taken out of it."""
        shown = one_line(topic)
        for value in self._ids() if self.redact else ():
            if len(value) >= _TRACEABLE_LENGTH:
                shown = shown.replace(value, hash_id(value))
        return shown

    def _is_id(self, name: str) -> bool:
        return self.redact and (looks_like_phone_number(name) or name in self._ids())

    def _ids(self) -> list[str]:
        """Every id of the context, longest first: one may be part of another."""
        source = self.source
        ids = {source.chat_id, source.user_id, source.thread_id}
        ids |= {source.user_id_alt, source.chat_id_alt, *(home.chat_id for home in self.homes)}
        known = {each for each in ids if each}
        known |= {_split_chat_id(each)[1] for each in known}
        return sorted(known, key=lambda each: (-len(each), each))


def shown_context(context: SessionContext, *, redact_pii: bool) -> SessionContext:
    """A copy of ``context`` of which every text may stand in a prompt.

    Ids are replaced by hashes if ``redact_pii`` is set and the source's platform is one of
    ``REDACTED_PLATFORMS``; then a display name that is an id or looks like a phone number is
    replaced too. ``context`` itself is not altered.
    """
    source = context.source
    redact = redact_pii and source.platform in REDACTED_PLATFORMS
    shown = _Shown(redact, source, tuple(context.home_channels.values()))
    return replace(
        context,
        source=replace(
            source,
            chat_id=_if_any(shown.chat_id, source.chat_id) or "",
            chat_name=_if_any(shown.chat_name, source.chat_name),
            user_id=_if_any(shown.user_id, source.user_id),
            user_name=_if_any(shown.user_name, source.user_name),
            thread_id=_if_any(shown.chat_id, source.thread_id),
            chat_topic=_if_any(shown.topic, source.chat_topic),
            user_id_alt=None,
            chat_id_alt=None,
        ),
        home_channels={
            platform: replace(
                home, chat_id=shown.chat_id(home.chat_id), name=shown.chat_name(home.name)
            )
            for platform, home in context.home_channels.items()
        },
    )


def _if_any(show: Callable[[str], str], text: str | None) -> str | None:
    """``text`` as shown; one of which nothing can be seen counts as absent."""
    return show(text) if text and one_line(text) else None
