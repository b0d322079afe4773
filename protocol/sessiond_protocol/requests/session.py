"""Requests about sessions. Times are Unix seconds taken from the caller's clock."""

from typing import Any, ClassVar

from sessiond_protocol.requests.base import Count, Int64, Kind, Request

Row = dict[str, Any]


class SessionCreate(Request[str], frozen=True):
    """Insert a session, or fill what is still unset of an existing one."""

    METHOD: ClassVar[str] = "session.create"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str
    source: str
    started_at: float
    model: str | None = None
    model_config: str | None = None  # JSON
    system_prompt: str | None = None
    user_id: str | None = None
    parent_session_id: str | None = None


class SessionEnsure(Request[None], frozen=True):
    """Make sure that a session exists; never change an existing one."""

    METHOD: ClassVar[str] = "session.ensure"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str
    started_at: float
    source: str = "unknown"
    model: str | None = None


class SessionEnd(Request[None], frozen=True):
    """End a session that has not ended yet; the first reason stays."""

    METHOD: ClassVar[str] = "session.end"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str
    end_reason: str | None
    ended_at: float


class SessionReopen(Request[None], frozen=True):
    """Clear the end of a session."""

    METHOD: ClassVar[str] = "session.reopen"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str


class SessionSetSystemPrompt(Request[None], frozen=True):
    """Store the assembled system prompt."""

    METHOD: ClassVar[str] = "session.set_system_prompt"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str
    system_prompt: str | None


class SessionSetTitle(Request[bool], frozen=True):
    """Set a cleaned title, or clear it with nil. True if the session exists."""

    METHOD: ClassVar[str] = "session.set_title"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str
    title: str | None


class SessionUpdateTokens(Request[None], frozen=True):
    """Add to a session's token counters and costs, or set them (``absolute``)."""

    METHOD: ClassVar[str] = "session.update_tokens"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str
    at: float  # becomes started_at if the session does not exist yet
    input_tokens: Int64 = 0
    output_tokens: Int64 = 0
    model: str | None = None
    cache_read_tokens: Int64 = 0
    cache_write_tokens: Int64 = 0
    reasoning_tokens: Int64 = 0
    estimated_cost_usd: float | None = None
    actual_cost_usd: float | None = None
    cost_status: str | None = None
    cost_source: str | None = None
    pricing_version: str | None = None
    billing_provider: str | None = None
    billing_base_url: str | None = None
    billing_mode: str | None = None
    absolute: bool = False


class SessionDelete(Request[bool], frozen=True):
    """Delete a session with its messages; its children become orphans."""

    METHOD: ClassVar[str] = "session.delete"
    KIND: ClassVar[Kind] = Kind.WRITE
    session_id: str


class SessionPruneSlice(Request[int], frozen=True):
    """Delete up to ``limit`` ended sessions that started before ``before``.

    The answer is how many were deleted; zero means that none is left.
    """

    METHOD: ClassVar[str] = "session.prune_slice"
    KIND: ClassVar[Kind] = Kind.WRITE
    before: float
    source: str | None = None
    limit: Count = 200


class SessionGet(Request[Row | None], frozen=True):
    """All columns of one session, or nil."""

    METHOD: ClassVar[str] = "session.get"
    session_id: str


class SessionResolve(Request[str | None], frozen=True):
    """The full id for an id or an unambiguous prefix, or nil."""

    METHOD: ClassVar[str] = "session.resolve"
    session_id_or_prefix: str


class SessionTitle(Request[str | None], frozen=True):
    """A session's title, or nil."""

    METHOD: ClassVar[str] = "session.title"
    session_id: str


class SessionByTitle(Request[Row | None], frozen=True):
    """The session with exactly this title, or nil."""

    METHOD: ClassVar[str] = "session.by_title"
    title: str


class SessionResolveTitle(Request[str | None], frozen=True):
    """The newest session of a title's lineage, or nil."""

    METHOD: ClassVar[str] = "session.resolve_title"
    title: str


class SessionNextTitle(Request[str], frozen=True):
    """The next free title of a lineage."""

    METHOD: ClassVar[str] = "session.next_title"
    base_title: str


class SessionNewest(Request[list[Row]], frozen=True):
    """Sessions, newest first."""

    METHOD: ClassVar[str] = "session.newest"
    source: str | None = None
    limit: Count = 20
    offset: Count = 0


class SessionRich(Request[list[Row]], frozen=True):
    """Sessions, newest first, each with ``preview`` and ``last_active``."""

    METHOD: ClassVar[str] = "session.rich"
    source: str | None = None
    exclude_sources: list[str] | None = None
    limit: Count = 20
    offset: Count = 0


class SessionPage(Request[list[Row]], frozen=True):
    """Sessions for an export: the next ``limit`` after a key, in a stable order."""

    METHOD: ClassVar[str] = "session.page"
    source: str | None = None
    after: tuple[float, str] | None = None  # (started_at, id) of the last one seen
    limit: Count = 200


class SessionCount(Request[int], frozen=True):
    """How many sessions there are."""

    METHOD: ClassVar[str] = "session.count"
    source: str | None = None


class SessionPrunable(Request[int], frozen=True):
    """How many sessions a prune with these arguments would delete."""

    METHOD: ClassVar[str] = "session.prunable"
    before: float
    source: str | None = None
