"""Requests about routes: what a gateway's session key points at. Times are Unix seconds."""

from typing import Annotated, ClassVar, Final, Literal

import msgspec

from sessiond_protocol.requests.base import Count, Int64, Kind, Request

MAX_ROUTES: Final = 1000
MAX_IMPORTED: Final = 200


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The row of a session key.

    ``version`` is 1 at first and rises by 1 with every change. ``entry`` is JSON that only
    gateways read; where it repeats a column, the column is right.
    """

    session_key: str
    session_id: str
    version: int
    updated_at: float
    entry: str


class RouteGet(Request[Route | None], frozen=True):
    """The route of a session key, or nil."""

    METHOD: ClassVar[str] = "route.get"
    session_key: str


class RouteList(Request[list[Route]], frozen=True):
    """The routes with keys over ``after_key``, in order of the key."""

    METHOD: ClassVar[str] = "route.list"
    after_key: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROUTES)] = MAX_ROUTES


class RoutedSession(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is done about the row of the session that a route will point at.

    ``new``: it is made, and must not exist. ``ensure``: it is made unless it exists, and what
    is unset is filled in. ``existing``: it must exist, and is not changed.
    """

    mode: Literal["new", "ensure", "existing"]
    source: str = "unknown"
    user_id: str | None = None
    started_at: float = 0.0


class SessionEnding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the session that a route pointed at is ended; a reason it has already stays."""

    reason: str
    at: float


class SessionTotals(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is known of a session's consumption so far; nil keeps what is stored.

    ``model`` and the two ``billing_`` fields are filled in only while unset.
    """

    input_tokens: Int64 | None = None
    output_tokens: Int64 | None = None
    cache_read_tokens: Int64 | None = None
    cache_write_tokens: Int64 | None = None
    estimated_cost_usd: float | None = None
    cost_status: str | None = None
    cost_source: str | None = None
    model: str | None = None
    billing_provider: str | None = None
    billing_base_url: str | None = None


class RoutePlaced(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a ``route.put``.

    ``version`` is that of the row as it is now, 0 without one. If nothing was applied, because
    somebody else had changed the row, ``route`` is that row.
    """

    applied: bool
    version: int
    route: Route | None = None


class RoutePut(Request[RoutePlaced], frozen=True):
    """Point a session key at a session, if nobody has changed its route in the meantime.

    The row must have ``expected_version`` and ``expected_session_id``, or, with 0 and nil, must
    not be there; otherwise nothing is changed. In one transaction this makes the session's row,
    ends the one that the key pointed at (``end``), clears the new one's end (``reopen``),
    stores totals and writes the route.

    ``conflict`` if the session is to be new and exists, ``not_found`` if it is to exist and does
    not, ``invalid_params`` if a session is to be ended that the key does not leave.
    """

    METHOD: ClassVar[str] = "route.put"
    KIND: ClassVar[Kind] = Kind.WRITE
    IN_BATCH: ClassVar[bool] = False  # the other items would be applied although it was not
    session_key: str
    expected_version: Count
    expected_session_id: str | None
    session_id: str
    updated_at: float
    entry: str
    session: RoutedSession
    end: SessionEnding | None = None
    reopen: bool = False
    totals: SessionTotals | None = None


class ImportedRoute(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A route from elsewhere, with what its session's row is made of if there is none."""

    session_key: str
    session_id: str
    updated_at: float
    entry: str
    source: str = "unknown"
    user_id: str | None = None
    started_at: float


class RouteImport(Request[list[str]], frozen=True):
    """Take over routes whose keys have none. The answer is the keys that were taken."""

    METHOD: ClassVar[str] = "route.import"
    KIND: ClassVar[Kind] = Kind.WRITE
    routes: Annotated[list[ImportedRoute], msgspec.Meta(max_length=MAX_IMPORTED)]


class Transcript(msgspec.Struct, frozen=True):
    """A session's stored transcript: how many messages it has, whether files count no more."""

    messages: int
    marked: bool


class TranscriptState(Request[Transcript], frozen=True):
    """What a gateway must know before it takes a transcript from a file."""

    METHOD: ClassVar[str] = "transcript.state"
    session_id: str


class SessionSeveral(Request[bool], frozen=True):
    """Whether more than one session was ever created, as far as the rows tell."""

    METHOD: ClassVar[str] = "session.several"
