"""The part of the system prompt that says where the agent is and where it can answer.

The same context gives the same bytes, in this version and the next: providers cache prompts by
their beginning. Platforms are therefore listed by name, not in the order of a configuration
file, and the wording is held by golden files.
"""

from collections.abc import Iterator
from typing import Final

from sessiond_client.gateway.config import HomeChannel, Platform
from sessiond_client.gateway.context import SessionContext
from sessiond_client.gateway.redaction import shown_context
from sessiond_client.gateway.source import SessionSource

_PLATFORM_NOTES: Final = {
    Platform.SLACK: (
        "**Platform notes:** You are running inside Slack, without access to the Slack API. You"
        " cannot search message history, pin messages, manage channels or user groups, or list"
        " members. Do not promise to do any of these. If asked, say that you can only read the"
        " messages sent to you and reply to them."
    ),
    Platform.DISCORD: (
        "**Platform notes:** You are running inside Discord, without access to the Discord API."
        " You cannot search message history, pin messages, manage channels or roles, or list"
        " members. Do not promise to do any of these. If asked, say that you can only read the"
        " messages sent to you and reply to them."
    ),
}
_EXPLICIT_TARGETS: Final = (
    "*To deliver to a particular chat, name it as `platform:chat_id`, if the user gives its id.*"
)


def build_session_context_prompt(context: SessionContext, *, redact_pii: bool = False) -> str:
    """The context as Markdown for a system prompt, without a final line break.

    With ``redact_pii``, and only for a source on WhatsApp, Signal or Telegram, ids and names
    that are phone numbers are replaced by hashes. Names, topics and ids are on one line each,
    whatever they contained.
    """
    shown = shown_context(context, redact_pii=redact_pii)
    homes = sorted(shown.home_channels.items(), key=lambda item: item[0].value)
    lines = ["## Current Session Context", *_about_source(shown.source)]
    notes = _PLATFORM_NOTES.get(shown.source.platform)
    if notes:
        lines += ["", notes]
    lines.append(f"**Connected Platforms:** {', '.join(_connected(shown.connected_platforms))}")
    if homes:
        lines += ["", "**Home Channels (default destinations):**"]
        lines += [f"  - {each.value}: {home.name} (ID: {home.chat_id})" for each, home in homes]
    lines += ["", "**Delivery options for scheduled tasks:**", *_deliveries(shown.source, homes)]
    lines += ["", _EXPLICIT_TARGETS]
    return "\n".join(lines)


def _about_source(source: SessionSource) -> Iterator[str]:
    local = source.platform == Platform.LOCAL
    where = "the machine running this agent" if local else source.description
    yield f"**Source:** {source.platform.value.title()} ({where})"
    if source.chat_topic:
        yield f"**Channel Topic:** {source.chat_topic}"
    if source.user_name:
        yield f"**User:** {source.user_name}"
    elif source.user_id:
        yield f"**User ID:** {source.user_id}"


def _connected(platforms: list[Platform]) -> Iterator[str]:
    yield "local (files on this machine)"
    for value in sorted(platform.value for platform in platforms):
        if value != Platform.LOCAL:
            yield f"{value}: Connected ✓"


def _deliveries(source: SessionSource, homes: list[tuple[Platform, HomeChannel]]) -> Iterator[str]:
    if source.platform == Platform.LOCAL:
        yield '- `"origin"` → Local output (saved to files)'
    else:
        yield f'- `"origin"` → Back to this chat ({source.chat_name or source.chat_id})'
    yield '- `"local"` → Save to local files only (~/.hermes/cron/output/)'
    for platform, home in homes:
        yield f'- `"{platform.value}"` → Home channel ({home.name})'
