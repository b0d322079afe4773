"""What every call about session keys does, apart from waiting.

Each method is a plan (see ``steps``). The table of routes decides between gateways: a plan looks
at a route, decides, and puts a new one in its place; if somebody else was quicker it decides
again from what is there now. Nothing is locked, so that a gateway that is killed, or whose call
is abandoned, between any two steps stands in nobody's way.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from sessiond_client import _errors as errors
from sessiond_client._requests import new_session_id
from sessiond_client.gateway import placing
from sessiond_client.gateway.config import Platform, SessionConfig
from sessiond_client.gateway.entry import SessionEntry, local_datetime, unix_seconds
from sessiond_client.gateway.keys import build_session_key
from sessiond_client.gateway.legacy import LegacyEntries, load_legacy
from sessiond_client.gateway.source import SessionSource
from sessiond_client.gateway.staleness import StaleReason, stale_reason
from sessiond_client.gateway.steps import Callback, Contended, FileWork, Plan
from sessiond_protocol.content import check_integer, check_real, clean_text
from sessiond_protocol.requests.route import (
    MAX_IMPORTED,
    Route,
    RouteGet,
    RouteImport,
    RouteList,
    RoutePlaced,
    RoutePut,
    SessionSeveral,
    SessionTotals,
)
from sessiond_protocol.requests.session import SessionGet

log = logging.getLogger(__name__)

RESET: Final = "session_reset"
SWITCH: Final = "session_switch"
PAGE: Final = 500
MOST_REMEMBERED: Final = 10_000

# Puts a route: True if it was applied, else the route that is there instead.
Placing = Generator[Any, Any, tuple[bool, Route | None]]


class RoutePlans:
    """The calls about session keys of one store.

    ``clock`` gives Unix seconds. ``changed`` is called after every change of a route. The two
    callbacks are the gateway's.
    """

    def __init__(
        self,
        config: SessionConfig,
        clock: Callable[[], float],
        has_active_processes: Callable[[str], Any] | None,
        on_auto_reset: Callable[[SessionEntry], Any] | None,
        changed: Callable[[], None],
    ) -> None:
        self.config = config
        self._clock = clock
        self._has_active_processes = has_active_processes
        self._on_auto_reset = on_auto_reset
        self._changed = changed
        # A guess at what the table holds; a put that relied on an old one is not applied.
        self._remembered: OrderedDict[str, Route] = OrderedDict()

    # --- the calls -------------------------------------------------------------------------

    def get_or_create_session(self, source: SessionSource, force_new: bool) -> Plan[SessionEntry]:
        key = clean_text(build_session_key(source, self.config.group_sessions_per_user))
        route = self._remembered.get(key)
        is_fresh = route is None
        if route is None:
            route = yield RouteGet(session_key=key)
        told: str | None = None
        asked = unix_seconds(local_datetime(self._clock()))  # as it would be stored
        while True:
            reason: StaleReason | None = None
            if route is not None and not force_new:
                reason = yield from self._stale(
                    key, route.updated_at, source.platform, source.chat_type
                )
            if reason and not is_fresh:
                # Another gateway may have touched it: nobody is told of a reset that is none.
                route, is_fresh = (yield RouteGet(session_key=key)), True
                continue
            old = placing.entry_of(route) if route is not None else None
            if reason and old and told != old.session_id:
                told = old.session_id
                yield from self._tell(old)
            now = self._clock()
            if old is not None and not reason and not force_new:
                entry = placing.touched(old, now, **placing.WITHOUT_FLAGS)
                put = placing.placement(entry, route, "ensure")
            else:
                entry = placing.first_entry(key, new_session_id(now), source, now)
                if reason and old:
                    entry.was_auto_reset = True
                    entry.auto_reset_reason = reason
                    entry.reset_had_activity = placing.had_activity(old)
                put = placing.placement(entry, route, "new", end_reason=RESET)
            applied, route = yield from self._put(put, route)
            if applied:
                return entry
            if route is not None and route.updated_at >= asked and not force_new:
                # Touched since this call began, which is all that it would do itself: of many
                # calls at once one writes, instead of each one after the other.
                return replace(placing.entry_of(route), **placing.WITHOUT_FLAGS)
            is_fresh = True

    def update_session(
        self,
        session_key: str,
        on_entry: dict[str, Any],
        last_prompt_tokens: int | None,
        on_session: dict[str, str | None],
    ) -> Plan[None]:
        """``on_entry``: counters and costs of both; ``on_session``: what only the row has."""
        key = clean_text(session_key)
        known = _checked({**on_entry, "last_prompt_tokens": last_prompt_tokens})
        stored: dict[str, Any] = {name: known[name] for name in on_entry}
        stored.update({name: _text(value, name) for name, value in on_session.items()})
        totals = SessionTotals(**stored)
        route = yield from self._look(key)
        while route is not None:
            entry = placing.consuming(placing.entry_of(route), known, self._clock())
            put = placing.placement(entry, route, "ensure", totals=totals)
            applied, route = yield from self._put(put, route)
            if applied:
                return

    def reset_session(self, session_key: str) -> Plan[SessionEntry | None]:
        key = clean_text(session_key)
        route = yield from self._look(key)
        while route is not None:
            now = self._clock()
            entry = placing.succeeding(placing.entry_of(route), new_session_id(now), now)
            put = placing.placement(entry, route, "new", end_reason=RESET)
            applied, route = yield from self._put(put, route)
            if applied:
                return entry
        return None

    def switch_session(self, session_key: str, target_session_id: str) -> Plan[SessionEntry | None]:
        key, target = clean_text(session_key), clean_text(target_session_id)
        route: Route | None = yield RouteGet(session_key=key)
        while route is not None:
            old = placing.entry_of(route)
            if route.session_id == target:
                return old
            row = yield SessionGet(session_id=target)
            if row is None:
                raise errors.NotFound(f"session {target!r} does not exist", {"session_id": target})
            entry = placing.joining(old, row, self._clock())
            put = placing.placement(entry, route, "existing", end_reason=SWITCH, reopen=True)
            applied, route = yield from self._put(put, route)
            if applied:
                return entry
        return None

    def list_sessions(self, active_minutes: float | None) -> Plan[list[SessionEntry]]:
        routes = yield from all_routes()
        if active_minutes is not None:
            since = self._clock() - check_real(active_minutes, "active_minutes") * 60
            routes = [route for route in routes if route.updated_at >= since]
        routes.sort(key=lambda route: route.updated_at, reverse=True)
        return [placing.entry_of(route) for route in routes]

    def has_any_sessions(self) -> Plan[bool]:
        several: bool = yield SessionSeveral()
        return several

    def is_session_expired(self, entry: SessionEntry) -> Plan[StaleReason | None]:
        # A configuration of the gateway's own may not expect None, but no platform is true.
        platform = cast(Platform, placing.policy_platform(entry))
        reason = yield from self._stale(
            entry.session_key, unix_seconds(entry.updated_at), platform, entry.chat_type
        )
        return reason

    def take_over(self, sessions_dir: Path) -> Plan[LegacyEntries]:
        """Import what ``sessions.json`` held before, for keys that have no route."""
        legacy: LegacyEntries = yield FileWork(lambda: load_legacy(sessions_dir))
        if not legacy.entries:
            return legacy
        routes = yield from all_routes()
        present = {route.session_key for route in routes}
        missing = [
            imported
            for key, entry in legacy.entries.items()
            if (imported := placing.imported(key, entry)).session_key not in present
        ]
        for start in range(0, len(missing), MAX_IMPORTED):
            taken = yield RouteImport(routes=missing[start : start + MAX_IMPORTED])
            if taken:
                self._changed()
        return legacy

    # --- what they share -------------------------------------------------------------------

    def _look(self, key: str) -> Plan[Route | None]:
        route: Route | None = self._remembered.get(key)
        if route is None:
            route = yield RouteGet(session_key=key)
        return route

    def _stale(
        self, key: str, updated_at: float, platform: Platform, chat_type: str
    ) -> Plan[StaleReason | None]:
        policy = self.config.get_reset_policy(platform, chat_type)
        reason = stale_reason(updated_at, self._clock(), policy)
        if reason and self._has_active_processes is not None:
            is_busy = yield Callback(self._has_active_processes, (key,))
            return None if is_busy else reason
        return reason

    def _tell(self, old: SessionEntry) -> Plan[None]:
        if self._on_auto_reset is None:
            return
        try:
            yield Callback(self._on_auto_reset, (replace(old),))
        except Exception:
            log.exception("the callback for the reset of %r failed", old.session_key)

    def _put(self, request: RoutePut, instead_of: Route | None) -> Placing:
        """Put a route; if it was not applied, the route to decide from again."""
        try:
            placed: RoutePlaced = yield request
        except errors.Conflict as error:
            if request.session.mode != "new" or error.data.get("session_id") != request.session_id:
                raise
            # The new id is taken. The next one will not be.
            yield Contended(f"session id {request.session_id!r}")
            return False, instead_of
        route = placed.route
        if placed.applied:
            route = placing.placed_route(request, placed.version)
            self._remember(route)
            self._changed()
            return True, route
        if route is not None:
            self._remember(route)
        yield Contended(f"session key {request.session_key!r}")
        return False, route

    def _remember(self, route: Route) -> None:
        self._remembered.pop(route.session_key, None)
        self._remembered[route.session_key] = route
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)


def all_routes() -> Plan[list[Route]]:
    """Every route, page by page; what changes in between may or may not be seen."""
    routes: list[Route] = []
    after = ""
    while True:
        page: list[Route] = yield RouteList(after_key=after, limit=PAGE)
        routes += page
        if len(page) < PAGE:
            return routes
        after = page[-1].session_key


def _checked(known: dict[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in known.items():
        if value is None:
            checked[name] = None
        elif name.endswith("_tokens"):
            checked[name] = check_integer(value, name)
        elif name.endswith("_usd"):
            checked[name] = check_real(value, name)
        else:
            checked[name] = _text(value, name)
    return checked


def _text(value: str | None, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {type(value).__name__}")
    return clean_text(value)
