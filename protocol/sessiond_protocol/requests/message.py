"""Requests about messages and search."""

from typing import Annotated, Any, ClassVar, Final

import msgspec

from sessiond_protocol.requests.base import Count, Int64, Kind, Request

Row = dict[str, Any]

# A batch adds many of these up: their sum must fit a column, too.
CallCount = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Message(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """One message as it is stored. JSON columns hold JSON text, encoded by the client.

    ``content`` is the text that is searched and previewed; ``content_value`` is the JSON of
    structured content, whose text parts ``content`` holds.
    """

    role: str
    timestamp: float
    content: str | None = None
    content_value: str | None = None
    tool_name: str | None = None
    tool_calls: str | None = None
    tool_call_count: CallCount = 0
    tool_call_id: str | None = None
    token_count: Int64 | None = None
    finish_reason: str | None = None
    reasoning: str | None = None
    reasoning_details: str | None = None
    codex_reasoning_items: str | None = None
    message_key: str | None = None


class MessageAppend(Request[int], frozen=True):
    """Store one message and raise the session's counters. The answer is its id."""

    METHOD: ClassVar[str] = "message.append"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str
    message: Message


class MessageAppendMany(Request[list[int]], frozen=True):
    """Store several messages of one session, all or none. The answer is their ids."""

    METHOD: ClassVar[str] = "message.append_many"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str
    messages: list[Message]


class Unchanged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of a transcript that its replacement was prepared for.

    ``message_count`` rows, and, if ``unmarked``, no mark that files count no more.
    """

    unmarked: bool
    message_count: Count


NOT_REPLACED: Final = -1


class MessageReplace(Request[int], frozen=True):
    """Put these messages in the place of a session's transcript. The answer is their number.

    ``mark_transcript``: from now on the database alone counts, not a gateway's file. If the
    transcript is not as ``only_if`` says, nothing is changed and the answer is
    ``NOT_REPLACED``.
    """

    METHOD: ClassVar[str] = "message.replace"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str
    messages: list[Message]
    mark_transcript: bool = False
    only_if: Unchanged | None = None


class MessageClear(Request[None], frozen=True):
    """Delete a session's messages and zero both counters."""

    METHOD: ClassVar[str] = "message.clear"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str


class Page(msgspec.Struct, frozen=True):
    """Rows in order, and whether more follow after the last of them."""

    rows: list[Row]
    more: bool = False


class MessagePage(Request[Page], frozen=True):
    """A session's messages with ids over ``after_id``, in order of id.

    An answer ends early, with ``more``, once it holds some megabytes.
    """

    METHOD: ClassVar[str] = "message.page"
    session_id: str
    after_id: Count = 0
    limit: Count = 1000
    offset: Count = 0
    active_only: bool = False


class MessageLatest(Request[list[Row]], frozen=True):
    """The last messages of a session, or of all sessions together, oldest first.

    ``before_id``: of those with lower ids.
    """

    METHOD: ClassVar[str] = "message.latest"
    session_id: str | None = None
    limit: Count = 20
    before_id: Count | None = None


class MessageCount(Request[int], frozen=True):
    """How many messages a session has, or all sessions together."""

    METHOD: ClassVar[str] = "message.count"
    session_id: str | None = None


class SearchPage(msgspec.Struct, frozen=True):
    """Hits, best first, and whether the index was out of order (``degraded``)."""

    rows: list[Row]
    degraded: bool = False


class SearchMessages(Request[SearchPage], frozen=True):
    """Messages that match a query."""

    METHOD: ClassVar[str] = "search.messages"
    query: str
    source_filter: list[str] | None = None
    exclude_sources: list[str] | None = None
    role_filter: list[str] | None = None
    limit: Count = 20
    offset: Count = 0
