"""Where the database and the socket are found: one rule for the daemon and its clients.

The environment is an argument, so that nothing here depends on the process it runs in. No
function opens the database.
"""

import os
import stat
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final

# What fits into sockaddr_un.sun_path on Linux, the final NUL aside.
MAX_SOCKET_PATH: Final = 107


class UnsafePlace(ValueError):
    """A directory that somebody else could write to is not used for a socket."""


def resolve_database(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str:
    """The database: the argument, ``SESSIOND_DATABASE``, ``$HERMES_HOME/state.db``, or
    ``~/.hermes/state.db``."""
    if path is not None:
        return os.path.abspath(os.path.expanduser(os.fspath(path)))
    chosen = environ.get("SESSIOND_DATABASE")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    home = environ.get("HERMES_HOME")
    folder = os.path.expanduser(home) if home else _home(environ) / ".hermes"
    return os.path.abspath(os.path.join(folder, "state.db"))


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    return Path(home) if home else Path.home()


def state_file(database: str) -> str:
    """The file beside a database in which its daemon says where it listens."""
    return f"{database}.sessiond"


def checked_socket(path: str) -> str:
    """A socket path that the system can bind; ``ValueError`` if it is too long."""
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        raise ValueError(
            f"socket path of {size} bytes exceeds {MAX_SOCKET_PATH}: {path};"
            " choose a shorter one with --socket or SESSIOND_SOCKET"
        )
    return path


def chosen_socket(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str | None:
    """The socket that an argument or ``SESSIOND_SOCKET`` names, or None."""
    wanted = os.fspath(path) if path is not None else environ.get("SESSIOND_SOCKET")
    return checked_socket(os.path.abspath(os.path.expanduser(wanted))) if wanted else None


def usual_socket(database: str, uid: int, run_user: str = "/run/user") -> str:
    """Where a daemon for this database listens if nobody says otherwise.

    ``/run/user/<uid>`` counts when it exists, is the user's own and closed to others, whatever
    the environment says: cron jobs have none. Else a directory of the user's own in ``/tmp``.
    """
    name = blake2b(os.fsencode(os.path.realpath(database)), digest_size=8).hexdigest()
    runtime = os.path.join(run_user, str(uid))
    folder = (
        os.path.join(runtime, "sessiond") if _is_private(runtime, uid) else f"/tmp/sessiond-{uid}"
    )
    return checked_socket(os.path.join(folder, f"{name}.sock"))


def _is_private(folder: str, uid: int) -> bool:
    try:
        check_private(folder, uid)
    except (OSError, UnsafePlace):
        return False
    return True


def check_private(folder: str, uid: int) -> None:
    """Raise :class:`UnsafePlace` unless ``folder`` is a directory, this user's and closed.

    Raises ``OSError`` if it cannot be looked at.
    """
    found = os.lstat(folder)
    if stat.S_ISLNK(found.st_mode):
        raise UnsafePlace(f"{folder} is a symbolic link, a directory of uid {uid} is expected")
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafePlace(f"{folder} is not a directory")
    if found.st_uid != uid:
        raise UnsafePlace(f"{folder} belongs to uid {found.st_uid}, not to uid {uid}")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise UnsafePlace(f"{folder} has mode {mode:04o}, 0700 is expected")


def make_private(folder: str, uid: int) -> None:
    """Make a socket's directory, mode 0700, and check what is there now."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise UnsafePlace(f"{os.path.dirname(folder)} does not exist") from None
    check_private(folder, uid)
