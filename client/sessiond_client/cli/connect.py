"""From the command line to an open store, and the errors on the way."""

import contextlib
import errno
import os
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from sessiond_client import SessionDB
from sessiond_client._place import Place
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.options import Asked
from sessiond_protocol import paths, state_file
from sessiond_protocol.requests import Request
from sessiond_protocol.state_file import State

T = TypeVar("T")

PROBE_SECONDS: Final = 2.0


def database_path(asked: Asked) -> str:
    """The database that is meant; refuses a name that cannot be one."""
    try:
        return paths.resolve_database(asked.database, os.environ)
    except ValueError as error:
        raise Refused(str(error), os.EX_USAGE) from error


def place_of(asked: Asked) -> Place:
    """The database and how its daemon is reached."""
    try:
        socket = paths.chosen_socket(asked.socket, os.environ)
    except ValueError as error:
        raise Refused(str(error), os.EX_USAGE) from error
    return Place(os.path.realpath(database_path(asked)), socket, autostart=False)


@contextmanager
def opened(asked: Asked, *, autostart: bool = True, create: bool = False) -> Iterator[SessionDB]:
    """The store, its daemon started if need be (unless ``autostart`` is off).

    A database that does not exist is refused rather than made, unless ``create``: a mistyped
    path must not leave an empty database behind.
    """
    place = place_of(asked)
    if not create and place.socket is None:
        check_exists(place)
    if not autostart or is_served_elsewhere(place):
        check_served(place)
    with SessionDB(
        place.database, socket=place.socket, autostart=autostart, timeout=asked.timeout
    ) as db:
        yield db


def check_exists(place: Place) -> None:
    """Refuse a database that is not there, or is no file."""
    try:
        os.stat(place.database)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(
            f"there is no database {place.database}; name one with --database or SESSIOND_DATABASE",
            os.EX_NOINPUT,
        ) from error
    except PermissionError:
        return  # a daemon of another user may serve it all the same
    if os.path.isdir(place.database):
        raise Refused(f"{place.database} is a directory, not a database", os.EX_NOINPUT)


def is_served(place: Place) -> bool:
    """Whether a daemon answers right now."""
    return failures(place) is None


def failures(place: Place) -> dict[str, str] | None:
    """Why no daemon answers, by the socket that was tried; None if one does."""
    found = {}
    for path in place.candidates():
        connected, why = place.connect(path, PROBE_SECONDS)
        if connected is not None:
            connected.close()
            return None
        found[path] = why or "no answer"
    return found


def is_served_elsewhere(place: Place) -> bool:
    """Whether a daemon serves the database on another socket than the one that was named.

    One that were started for that socket could not have the database.
    """
    if place.socket is None:
        return False
    found = state_file.read(paths.state_file(place.database))
    return (
        found is not None
        and found.state in (State.SERVING, State.MIGRATING)
        and found.socket != place.socket
        and _lives(found.pid)
    )


def check_served(place: Place) -> None:
    """Refuse when no daemon answers; says what its last one left word of."""
    found = failures(place)
    if found is None:
        return
    check_reachable(place, found)
    left = last_word(place)
    told = f" ({left})" if left else ""
    raise Refused(f"no daemon serves {place.database}{told}; {place.advice()}", os.EX_UNAVAILABLE)


def check_reachable(place: Place, found: Mapping[str, str]) -> None:
    """Refuse if one of the :func:`failures` is that this user may not go where the socket is."""
    denied = [path for path, why in found.items() if why == os.strerror(errno.EACCES)]
    if denied:
        raise Refused(
            f"the daemon of {place.database} cannot be reached by uid {os.geteuid()}:"
            f" {denied[0]}: permission denied",
            os.EX_NOPERM,
        )


def last_word(place: Place) -> str:
    """What the state file says of a daemon that does not answer; empty if nothing."""
    found = state_file.read(paths.state_file(place.database))
    if found is None:
        return ""
    said = f": {found.message}" if found.message else ""
    if found.state is State.STOPPED:
        return f"the last one, pid {found.pid}, has stopped{said}"
    if found.state is State.FAILED:
        return f"the last one, pid {found.pid}, failed{said}"
    if not _lives(found.pid):
        return f"the last one, pid {found.pid}, is gone without a word{said}"
    if place.socket is not None and found.socket != place.socket:
        return f"not on {place.socket}: pid {found.pid} serves it on {found.socket}"
    return f"pid {found.pid} is {found.state} but does not answer{said}"


def _lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False


def submit(db: SessionDB, request: Request[T]) -> Future[T]:
    """Send a write and go on; the future of its result."""
    return db._later(request)


def ask(db: SessionDB, request: Request[T]) -> T:
    """Make a request that the library has no method for."""

    def plan() -> Generator[Request[Any], Any, T]:
        answer: T = yield request
        return answer

    return db._run(plan())
