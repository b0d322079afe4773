"""Between stored routes and entries. Pure: every time is an argument."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from sessiond_client.gateway import _fields
from sessiond_client.gateway.config import Platform
from sessiond_client.gateway.entry import COUNTERS, SessionEntry, local_datetime, unix_seconds
from sessiond_client.gateway.source import SessionSource
from sessiond_protocol.content import clean_text, to_json
from sessiond_protocol.requests.route import (
    ImportedRoute,
    Route,
    RoutedSession,
    RoutePut,
    SessionEnding,
    SessionTotals,
)

log = logging.getLogger(__name__)

MOST_TOKENS: Final = 2**63 - 1
SUMMED: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
COST_FIELDS: Final = ("estimated_cost_usd", "cost_status")


def entry_of(route: Route) -> SessionEntry:
    """The entry of a route; where it repeats a column, the column is right.

    One that cannot be read is named in a warning, and then the columns are all there is.
    """
    columns = {
        "session_key": route.session_key,
        "session_id": route.session_id,
        "updated_at": route.updated_at,
    }
    try:
        return SessionEntry.from_dict({**_fields.json_object(route.entry.encode()), **columns})
    except ValueError as exc:
        log.warning("entry of %r cannot be read, its columns are used: %s", route.session_key, exc)
    try:
        updated_at = local_datetime(route.updated_at)
    except (ValueError, OverflowError, OSError):
        updated_at = local_datetime(0)
    return SessionEntry(route.session_key, route.session_id, updated_at, updated_at)


def first_entry(
    session_key: str, session_id: str, source: SessionSource, now: float
) -> SessionEntry:
    """The entry of a session that begins with a message from ``source``."""
    moment = local_datetime(now)
    return SessionEntry(
        session_key,
        session_id,
        moment,
        moment,
        origin=source,
        display_name=source.chat_name,
        platform=source.platform,
        chat_type=source.chat_type,
    )


def touched(entry: SessionEntry, now: float, **changes: Any) -> SessionEntry:
    """The entry as it is after something was done with it at ``now``."""
    return replace(entry, updated_at=local_datetime(now), **changes)


def succeeding(entry: SessionEntry, session_id: str, now: float) -> SessionEntry:
    """The entry of the session that follows another one in the same place."""
    return touched(
        entry,
        now,
        session_id=session_id,
        created_at=local_datetime(now),
        **dict.fromkeys(COUNTERS, 0),
        last_prompt_tokens=0,
        estimated_cost_usd=0.0,
        cost_status="unknown",
        **WITHOUT_FLAGS,
    )


WITHOUT_FLAGS: Final[dict[str, Any]] = {
    "was_auto_reset": False,
    "auto_reset_reason": None,
    "reset_had_activity": False,
}


def joining(entry: SessionEntry, row: Mapping[str, Any], now: float) -> SessionEntry:
    """The entry after a switch to a session that exists, with that session's own counters."""
    counters: dict[str, Any] = {name: _fields.whole(row, name, 0) for name in SUMMED}
    try:
        created_at = local_datetime(row["started_at"])
    except (TypeError, ValueError, OverflowError, OSError):
        created_at = local_datetime(now)
    return replace(
        succeeding(entry, row["id"], now),
        created_at=created_at,
        **counters,
        total_tokens=total(counters),
        estimated_cost_usd=_fields.number(row, "estimated_cost_usd", 0.0),
        cost_status=_fields.text(row, "cost_status", "unknown"),
    )


def consuming(entry: SessionEntry, known: Mapping[str, Any], now: float) -> SessionEntry:
    """The entry with what is ``known`` of its consumption so far; None keeps what is there."""
    changes = {name: value for name, value in known.items() if value is not None}
    merged = touched(entry, now, **changes)
    merged.total_tokens = total({name: getattr(merged, name) for name in SUMMED})
    return merged


def total(counters: Mapping[str, int]) -> int:
    """The sum of the four counters, as far as a column can hold it."""
    return max(-MOST_TOKENS, min(MOST_TOKENS, sum(counters.values())))


def had_activity(entry: SessionEntry) -> bool:
    """Whether anything was ever answered in this session."""
    return entry.total_tokens > 0 or any(getattr(entry, name) for name in SUMMED)


def platform_text(entry: SessionEntry) -> str:
    """The platform as a session's ``source``, also one that this version does not know."""
    if entry.platform is not None:
        return entry.platform.value
    if entry.origin is not None:
        return entry.origin.platform.value
    return entry.raw_platform if isinstance(entry.raw_platform, str) else "unknown"


def policy_platform(entry: SessionEntry) -> Platform | None:
    """The platform whose reset policy holds for an entry."""
    return entry.platform or (entry.origin.platform if entry.origin else None)


def placement(
    entry: SessionEntry,
    instead_of: Route | None,
    mode: Literal["new", "ensure", "existing"],
    *,
    end_reason: str | None = None,
    reopen: bool = False,
    totals: SessionTotals | None = None,
) -> RoutePut:
    """The request that points an entry's key at its session, if ``instead_of`` is there still."""
    updated_at = unix_seconds(entry.updated_at)
    return RoutePut(
        session_key=entry.session_key,
        expected_version=instead_of.version if instead_of else 0,
        expected_session_id=instead_of.session_id if instead_of else None,
        session_id=entry.session_id,
        updated_at=updated_at,
        entry=_stored(entry),
        session=RoutedSession(
            mode=mode,
            source=clean_text(platform_text(entry)),
            user_id=_user_id(entry),
            started_at=unix_seconds(entry.created_at),
        ),
        end=SessionEnding(reason=end_reason, at=updated_at)
        if instead_of and end_reason is not None
        else None,
        reopen=reopen,
        totals=totals,
    )


def placed_route(request: RoutePut, version: int) -> Route:
    """The row that a put has left."""
    return Route(
        session_key=request.session_key,
        session_id=request.session_id,
        version=version,
        updated_at=request.updated_at,
        entry=request.entry,
    )


def imported(session_key: str, entry: SessionEntry) -> ImportedRoute:
    """A route from an entry of a legacy file."""
    return ImportedRoute(
        session_key=clean_text(session_key),
        session_id=clean_text(entry.session_id),
        updated_at=unix_seconds(entry.updated_at),
        entry=_stored(entry),
        source=clean_text(platform_text(entry)),
        user_id=_user_id(entry),
        started_at=unix_seconds(entry.created_at),
    )


def _stored(entry: SessionEntry) -> str:
    return to_json(entry.to_record(), "entry")


def _user_id(entry: SessionEntry) -> str | None:
    if entry.origin is None or entry.origin.user_id is None:
        return None
    return clean_text(entry.origin.user_id)
