"""What all objects for one database in one process share: a connection and readers."""

import os
import socket
import threading
import time
from typing import Any

from sessiond_client._clock import clock
from sessiond_client._dial import Pause, Start, Try, dialling
from sessiond_client._direct import DirectReader, has_fts5, second_library_loaded
from sessiond_client._link import Link
from sessiond_client._place import Place
from sessiond_client._pump import Pump
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import SearchMessages

_lock = threading.Lock()
_open: dict[tuple[str, str | None], "Shared"] = {}


class Shared:
    """One database's connection and readers in this process."""

    def __init__(self, key: tuple[str, str | None], place: Place) -> None:
        self._key = key
        self._place = place
        self.users = 0
        self.link = Link(place.database, place.program)
        self.pump = Pump(self.link, self._dial)
        self._direct = DirectReader(place.database)
        self._direct_works: bool | None = None
        self._searches_here: bool | None = None

    def _dial(self, deadline: float) -> socket.socket:
        place = self._place
        steps = dialling(
            place.candidates,
            lambda: deadline - clock(),
            autostart=place.autostart,
            advice=place.advice,
        )
        connected: socket.socket | None = None
        step = next(steps)
        while True:
            failure: str | None = None
            if isinstance(step, Try):
                connected, failure = place.connect(step.path, max(0.1, deadline - clock()))
            elif isinstance(step, Start):
                failure = place.start_daemon(deadline - clock())
            elif isinstance(step, Pause):
                time.sleep(step.seconds)
            if connected is not None:
                steps.close()
                return connected
            step = steps.send(failure)

    def reader(self, reads: str, request: Request[Any], deadline: float) -> DirectReader | None:
        """Who answers a read: the file itself, or (None) the daemon."""
        if reads == "daemon":
            return None
        if isinstance(request, SearchMessages):
            if self._searches_here is None:
                self._searches_here = has_fts5()
            if not self._searches_here:
                return None
        if reads == "auto":
            if second_library_loaded():
                return None
            if self._direct_works is None:
                self._reach(deadline)
                self._direct_works = self._direct.can_open()
            return self._direct if self._direct_works else None
        if self._direct_works is None:
            self._reach(deadline)
            self._direct_works = True
        return self._direct

    def _reach(self, deadline: float) -> None:
        """Make sure that a daemon has opened (made, recovered, migrated) the file."""
        self.pump.reach(deadline)

    def release(self) -> None:
        """One user fewer; the last one closes the connection."""
        with _lock:
            self.users -= 1
            if self.users > 0:
                return
            if _open.get(self._key) is self:
                del _open[self._key]
        self.pump.close()
        self._direct.close()

    def leave_to_parent(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        self.pump.leave_to_parent()
        self._direct.close()


def shared(place: Place) -> Shared:
    """The connection for a database, made on first use; release it when done."""
    key = (place.database, place.socket)
    with _lock:
        found = _open.get(key)
        if found is None:
            found = _open[key] = Shared(key, place)
        found.users += 1
        return found


def _after_fork() -> None:
    """A child never uses its parent's connection: its objects get their own on first use."""
    global _lock
    _lock = threading.Lock()
    for each in _open.values():
        each.leave_to_parent()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)

