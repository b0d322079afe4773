"""What all blocking objects for one database in one process share: a connection and readers."""

import contextlib
import os
import socket
import threading
from typing import Any

from sessiond_client import _errors as errors
from sessiond_client._call import Call
from sessiond_client._clock import clock
from sessiond_client._dial import Pause, Start, Try, dialling
from sessiond_client._direct import DirectReads, IndexDamaged, Way
from sessiond_client._exchange import Pause as Wait
from sessiond_client._link import Link
from sessiond_client._place import Key, Place
from sessiond_client._pump import Pump
from sessiond_protocol.errors import SessiondError
from sessiond_protocol.requests import Kind, Request
from sessiond_protocol.requests.server import RequestStatus

_lock = threading.Lock()
_open: dict[Key, "Shared"] = {}


class Shared:
    """One database's connection and readers in this process."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.users = 0
        self.pump = Pump(Link(place.database, place.program, place.advice), self._dial)
        self._direct = DirectReads(place.database)

    def ask(self, request: Request[Any], deadline: float, reads: str) -> Any:
        """The raw result of a request, from wherever it is answered."""
        if request.KIND is Kind.READ:
            way = self._direct.way(reads, request)
            if way is Way.UNSURE:
                # The file may not exist yet, or be about to be migrated or recovered.
                self.pump.reach(deadline)
                self._direct.look(request)
                way = self._direct.way(reads, request)
            if way is Way.FILE:
                self.pump.settle(deadline)
                with contextlib.suppress(IndexDamaged):
                    return self._direct.reader.read(request, deadline)
        if isinstance(request, RequestStatus):
            known = self.pump.link.outcomes.find(request.client_id, request.seq)
            if known is not None:
                return known
        return self.pump.call(Call(request, deadline))

    def _dial(self, deadline: float, wait: Wait) -> socket.socket:
        place = self._place
        steps = dialling(
            place.candidates,
            lambda: deadline - clock(),
            autostart=place.autostart,
            advice=place.advice,
        )
        connected: socket.socket | None = None
        started = False
        try:
            step = next(steps)
            while True:
                failure: str | None = None
                if isinstance(step, Try):
                    connected, failure = place.connect(step.path, max(0.1, deadline - clock()))
                elif isinstance(step, Start):
                    failure = place.start_daemon(deadline - clock())
                    started = failure is None
                elif isinstance(step, Pause):
                    wait(step.seconds)
                if connected is not None:
                    steps.close()
                    note_settings(place, started)
                    return connected
                step = steps.send(failure)
        except (OSError, ValueError) as error:
            if isinstance(error, SessiondError):
                raise
            raise errors.Unavailable(f"no daemon can be reached: {error}") from error

    def close(self) -> None:
        """Disconnect."""
        self.pump.close()
        self._direct.reader.close()

    def leave_to_parent(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        self.pump.leave_to_parent()
        self._direct.reader.leave_to_parent()


_noted: set[Key] = set()


def note_settings(place: Place, started: bool) -> None:
    """Say once that settings meant for a daemon that is started here changed nothing."""
    if started or not place.settings or place.key in _noted:
        return
    _noted.add(place.key)
    import logging  # here: few have anything logged, and all would wait for it

    log = logging.getLogger("sessiond_client")
    log.debug("the daemon of %s runs already and keeps its own settings", place.database)


def take_part(place: Place) -> Shared:
    """The connection for a database, made on first use; :func:`release` it when done."""
    key = place.key
    with _lock:
        found = _open.get(key)
        if found is None:
            found = _open[key] = Shared(place)
        found.users += 1
        return found


def release(shared: Shared) -> None:
    """One user fewer; the last one closes the connection."""
    with _lock:
        shared.users -= 1
        if shared.users > 0:
            return
        for key, each in list(_open.items()):
            if each is shared:
                del _open[key]
    shared.close()


def settle_all(deadline: float) -> None:
    """Wait until every write of this process is answered, whatever became of it."""
    with _lock:
        everything = list(_open.values())
    for each in everything:
        with contextlib.suppress(SessiondError):
            each.pump.settle(deadline)


def _after_fork() -> None:
    """A child never uses its parent's connection: its objects get their own on first use."""
    global _lock
    _lock = threading.Lock()
    for each in _open.values():
        each.leave_to_parent()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
