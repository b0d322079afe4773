"""Where the database and the socket are found: one rule for the daemon and its clients.

The environment, the user and the two base directories are arguments, so that nothing here
depends on the process it runs in. No function opens the database: a process that opens and
closes it outside of SQLite loses the locks that its own SQLite connections hold.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Final

# What fits into sockaddr_un.sun_path on Linux, the final NUL aside.
MAX_SOCKET_PATH: Final = 107

RUN_USER: Final = "/run/user"
TEMPORARY: Final = "/tmp"

_GROUP_AND_OTHERS: Final = 0o077
_GROUP_WRITE_AND_OTHERS: Final = 0o027


class UnsafePlace(ValueError):
    """A directory that somebody else could write to is not used for a socket."""


# --- the database ------------------------------------------------------------------------------


def resolve_database(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str:
    """The database's absolute path, symbolic links in it left as they are.

    The argument, else ``SESSIOND_DATABASE``, else ``$HERMES_HOME/state.db``, else
    ``~/.hermes/state.db``; an empty variable counts as unset. ``~`` is ``$HOME``, else the
    user's home in the password file. Raises ``ValueError`` for what cannot be a file that
    several processes share.
    """
    if path is not None:
        return _absolute(_as_file(os.fspath(path)), environ)
    chosen = environ.get("SESSIOND_DATABASE")
    if chosen:
        return _absolute(_as_file(chosen), environ)
    folder = environ.get("HERMES_HOME") or os.path.join("~", ".hermes")
    return _absolute(os.path.join(folder, "state.db"), environ)


def _as_file(path: str) -> str:
    if not path or path == ":memory:" or "\0" in path:
        raise ValueError(f"database {path!r} is not a file that processes can share: give a path")
    return path


def _absolute(path: str, environ: Mapping[str, str]) -> str:
    """Absolute without resolving ``..`` by text: behind a symbolic link it leads elsewhere."""
    expanded = _expand(path, environ)
    if not os.path.isabs(expanded):
        expanded = os.path.join(os.getcwd(), expanded)
    try:
        expanded.encode()
    except UnicodeEncodeError:
        raise ValueError(f"path {expanded!r} is not UTF-8: SQLite opens no other") from None
    return expanded if ".." in expanded.split("/") else os.path.normpath(expanded)


def _expand(path: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME")
    if home and (path == "~" or path.startswith("~/")):
        return home + path[1:]
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ValueError(f"{path}: the home directory is not known, give an absolute path")
    return expanded


def state_file(database: str) -> str:
    """The file in which a database's daemon says where it listens.

    It lies beside the file itself, not beside a symbolic link to it.
    """
    return f"{os.path.realpath(database)}.sessiond"


# --- the socket --------------------------------------------------------------------------------


def checked_socket(path: str) -> str:
    """A socket path that the system can bind; ``ValueError`` if it is too long or has NUL."""
    if "\0" in path:
        raise ValueError(f"socket path {path!r} contains NUL")
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        raise ValueError(
            f"socket path of {size} bytes exceeds {MAX_SOCKET_PATH}: {path};"
            " choose a shorter one with --socket or SESSIOND_SOCKET"
        )
    return path


def chosen_socket(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str | None:
    """The socket that the argument, else ``SESSIOND_SOCKET``, names; None if neither does."""
    wanted = os.fspath(path) if path is not None else environ.get("SESSIOND_SOCKET")
    return checked_socket(_absolute(wanted, environ)) if wanted else None


def usual_socket(
    database: str, uid: int, run_user: str = RUN_USER, temporary: str = TEMPORARY
) -> str:
    """Where a daemon for this database listens if nobody says otherwise.

    ``/run/user/<uid>`` counts when it exists, is the user's own and closed to others, whatever
    the environment says: cron jobs have none. Else a directory of the user's own in ``/tmp``.
    The name is a hash of the real path, so that all symbolic links to a file lead to one
    socket.
    """
    from hashlib import blake2b  # not before it is needed: OpenSSL comes along

    name = blake2b(os.fsencode(os.path.realpath(database)), digest_size=8).hexdigest()
    runtime = os.path.join(run_user, str(uid))
    if _is_private(runtime, uid):
        folder = os.path.join(runtime, "sessiond")
    else:
        folder = os.path.join(temporary, f"sessiond-{uid}")
    return checked_socket(os.path.join(folder, f"{name}.sock"))


def candidates(chosen: str | None, stated: str, usual: str) -> Sequence[str]:
    """The sockets a client tries, best first: a chosen one only, else what the state file
    says (``""`` if nothing), then the usual place."""
    if chosen is not None:
        return [chosen]
    if stated and os.path.isabs(stated) and len(os.fsencode(stated)) <= MAX_SOCKET_PATH:
        return list(dict.fromkeys([stated, usual]))
    return [usual]


# --- directories that hold sockets -------------------------------------------------------------


def _is_private(folder: str, uid: int) -> bool:
    try:
        check_private(folder, uid)
    except (OSError, UnsafePlace):
        return False
    return True


def check_private(folder: str, uid: int, *, for_group: bool = False) -> None:
    """Raise :class:`UnsafePlace` unless ``folder`` is a directory, this user's and closed.

    ``for_group`` lets the directory's group enter it, as a socket with a group needs. Raises
    ``OSError`` if it cannot be looked at.
    """
    judge_private(folder, os.lstat(folder), uid, for_group=for_group)


def judge_private(folder: str, found: os.stat_result, uid: int, *, for_group: bool = False) -> None:
    """:func:`check_private` for what ``os.lstat`` has found."""
    if stat.S_ISLNK(found.st_mode):
        raise UnsafePlace(f"{folder} is a symbolic link, a directory of uid {uid} is expected")
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafePlace(f"{folder} is not a directory")
    if found.st_uid != uid:
        raise UnsafePlace(f"{folder} belongs to uid {found.st_uid}, not to uid {uid}")
    forbidden = _GROUP_WRITE_AND_OTHERS if for_group else _GROUP_AND_OTHERS
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden:
        expected = "0750" if for_group else "0700"
        raise UnsafePlace(f"{folder} has mode {mode:04o}, {expected} is expected")


def make_private(folder: str, uid: int, group: int | None = None) -> None:
    """Make a socket's directory, mode 0700, and check what is there now.

    With ``group`` it gets that group and mode 0750; a directory that exists is left as it is.
    Raises :class:`UnsafePlace`, or ``OSError`` where it cannot be made.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        made = False
    except FileNotFoundError:
        raise UnsafePlace(f"{os.path.dirname(folder)} does not exist") from None
    else:
        made = True
    if made and group is not None:
        os.chown(folder, -1, group)
        os.chmod(folder, 0o750)
    check_private(folder, uid, for_group=group is not None)
