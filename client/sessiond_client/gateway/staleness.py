"""When a conversation is stale. Pure: the clock, the zone and the policy are arguments.

Times are instants (Unix seconds) and are compared as such, so that no daylight-saving change
can shorten or lengthen an idle time, and none can make one daily reset happen twice.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal, Protocol

StaleReason = Literal["idle", "daily"]


class ResetPolicy(Protocol):
    """What is asked of a policy; see ``SessionResetPolicy``."""

    @property
    def mode(self) -> str: ...

    @property
    def at_hour(self) -> int: ...

    @property
    def idle_minutes(self) -> float: ...


def stale_reason(
    updated_at: float, now: float, policy: ResetPolicy, zone: tzinfo | None = None
) -> StaleReason | None:
    """Why a session last touched at ``updated_at`` is stale at ``now``, or None if it is not.

    Both times are Unix seconds; ``zone`` is the one that ``at_hour`` is meant in (None: the
    system's). Idle is asked first. A session touched in what is now the future (the clock was
    set back) is not stale.
    """
    if policy.mode in ("idle", "both") and now - updated_at > policy.idle_minutes * 60:
        return "idle"
    if policy.mode in ("daily", "both") and updated_at < latest_reset(now, policy.at_hour, zone):
        return "daily"
    return None


def latest_reset(now: float, at_hour: int, zone: tzinfo | None = None) -> float:
    """The last daily reset not after ``now``, in Unix seconds.

    A day has one reset: an hour that is passed twice counts the first time, one that is
    skipped counts when the clock jumps over it.
    """
    today = _wall(now, zone).date()
    # Tomorrow's hour may be behind too: clocks have been set back over midnight.
    days = (today + timedelta(days=offset) for offset in (1, 0, -1))
    return max(moment for day in days if (moment := _reset_of(day, at_hour, zone)) <= now)


def _wall(instant: float, zone: tzinfo | None) -> datetime:
    """The wall clock's reading at an instant, without its zone."""
    return datetime.fromtimestamp(instant, UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def _reset_of(day: date, at_hour: int, zone: tzinfo | None) -> float:
    """The first instant at which the wall clock has reached ``at_hour`` on ``day``."""
    wanted = datetime.combine(day, time(at_hour))
    # Of a reading that does not exist, fold 0 is computed with the offset before the jump and
    # lies behind it, fold 1 with the offset after it and lies ahead of it.
    behind = int(wanted.replace(tzinfo=zone, fold=0).timestamp())
    if _wall(behind, zone) == wanted:
        return behind
    ahead = int(wanted.replace(tzinfo=zone, fold=1).timestamp())
    return _first(ahead, behind, lambda instant: _wall(instant, zone) >= wanted)


def _first(below: int, reached: int, holds: Callable[[int], bool]) -> int:
    """The first second after ``below`` for which ``holds``, given that ``reached`` is one."""
    while reached - below > 1:
        middle = (below + reached) // 2
        if holds(middle):
            reached = middle
        else:
            below = middle
    return reached
