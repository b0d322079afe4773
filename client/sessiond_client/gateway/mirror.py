"""Keeping ``sessions.json`` after the database, for older tools, in nobody's way."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from sessiond_client.gateway.legacy import mirror_lock, write_mirror
from sessiond_client.gateway.placing import entry_of
from sessiond_client.gateway.plans import all_routes
from sessiond_client.gateway.steps import FileWork, Plan
from sessiond_protocol.errors import SessiondError

log = logging.getLogger(__name__)

PAUSE: Final = 1.0


class Pace:
    """When the mirror is to be written: soon after a change, at most once in ``PAUSE`` seconds.

    ``now`` is any clock that only goes forward, in seconds.
    """

    def __init__(self) -> None:
        self._is_due = False
        self._has_failed = False
        self._not_before = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether anything has changed since the last writing began."""
        return self._is_due

    @property
    def is_owed(self) -> bool:
        """Whether the mirror is behind, also because it could not be written."""
        return self._is_due or self._has_failed

    def changed(self) -> None:
        self._is_due = True

    def delay(self, now: float) -> float:
        """Seconds to wait before writing what is due."""
        return max(0.0, self._not_before - now)

    def begin(self, now: float) -> None:
        """The mirror is about to be written; later changes are not in it."""
        self._is_due = self._has_failed = False
        self._not_before = now + PAUSE

    def failed(self) -> None:
        """It was not written. The next change, or the end, is soon enough to try again."""
        self._has_failed = True


def rewrite_mirror(sessions_dir: Path, unreadable: dict[str, Any]) -> Plan[bool]:
    """Write the mirror from the database; True if it was written.

    A failure is logged, and the old mirror stays.

    The database is read under the lock, so that of two gateways that write one after the other
    the second one knows all that the first one knew.
    """
    try:
        lock: ExitStack = yield FileWork(lambda: _locked(sessions_dir), undo=ExitStack.close)
        with lock:
            routes = yield from all_routes()
            entries = {route.session_key: entry_of(route) for route in routes}
            yield FileWork(lambda: write_mirror(sessions_dir, entries, unreadable))
    except (OSError, SessiondError) as exc:
        log.warning("%s: the session map cannot be mirrored: %s", sessions_dir, exc)
        return False
    return True


def _locked(sessions_dir: Path) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(mirror_lock(sessions_dir))
    return stack
