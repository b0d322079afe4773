"""Requests and notifications of the feed: committed changes pushed to subscribers."""

from typing import Any, ClassVar, Final

import msgspec

from sessiond_protocol.requests.base import Count, Kind, Request

EVENTS_METHOD: Final = "feed.events"

# Why ``sessions_changed`` is told.
AWAY: Final = "away"
BEHIND: Final = "behind"
FOREIGN: Final = "foreign"


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change.

    Kinds about one session: ``message`` (with the row), ``session_created``,
    ``session_ended`` and ``session_titled`` (with ``text``), ``session_reopened``,
    ``session_deleted``, ``messages_replaced`` (with the first and last new id),
    ``messages_cleared``. Kinds about the feed itself: ``sessions_changed`` (session events may
    have been missed; ``text`` says why: ``away``, ``behind``, or ``foreign``, another program
    committed), ``feed_reset`` (what came before this cursor changed: read
    anew what matters, the feed goes on from here).
    """

    kind: str
    session_id: str | None = None
    text: str | None = None
    first_id: int | None = None
    last_id: int | None = None
    message: dict[str, Any] | None = None


class Subscribed(msgspec.Struct, frozen=True):
    """``cursor`` is where the subscription begins: messages with higher ids follow."""

    subscription: int
    cursor: int
    generation: bytes


class Events(msgspec.Struct, frozen=True):
    """The argument of a ``feed.events`` notification, in commit order.

    ``cursor`` is the id up to which everything of interest has been sent.
    """

    subscription: int
    events: list[Event]
    cursor: int


class FeedSubscribe(Request[Subscribed], frozen=True):
    """Send this connection what is committed, of one session or of all.

    ``after``: messages with higher ids, stored ones first; nil: from now on. ``generation`` is
    that under which ``after`` was learnt; if the file has another one, a ``feed_reset`` comes
    first. ``resumed``: an earlier subscription is taken up again.
    """

    METHOD: ClassVar[str] = "feed.subscribe"
    KIND: ClassVar[Kind] = Kind.CONTROL
    session_id: str | None = None
    after: Count | None = None
    generation: bytes | None = None
    resumed: bool = False


class FeedUnsubscribe(Request[None], frozen=True):
    """Send no more of a subscription."""

    METHOD: ClassVar[str] = "feed.unsubscribe"
    KIND: ClassVar[Kind] = Kind.CONTROL
    subscription: int
