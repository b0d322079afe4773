"""What a committed batch changed, for those who watch."""

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change: ``kind`` and the session it concerns.

    Kinds: ``session_created``, ``session_ended``, ``session_reopened``, ``session_titled``,
    ``session_deleted``, ``messages_replaced`` (with the first and last new id),
    ``messages_cleared``.
    """

    kind: str
    session_id: str
    text: str | None = None  # the title or the end reason
    first_id: int | None = None
    last_id: int | None = None
