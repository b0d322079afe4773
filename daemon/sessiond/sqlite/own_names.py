"""The names beside a database that are its own: SQLite's files, and copies that are under way.

Whoever names one of them for a backup means something else. SQLite's files must not even be
opened and closed here: that would drop the locks which this process holds on them. A copy that
is under way is removed by the next of its kind, with whatever SQLite may have left beside it.
"""

import os
from typing import Final

COMPANIONS: Final = ("-wal", "-shm", "-journal")

_RESTORING: Final = ".restoring"
_UNKEPT: Final = ".before-restore.partial"
_CHECKED: Final = ".check.partial"
_ANNOUNCED: Final = (".sessiond", ".sessiond.lock")
_COPIES: Final = (_RESTORING, _UNKEPT, _CHECKED)


def restoring(database: str) -> str:
    """Where a restore prepares what takes a database's place."""
    return f"{database}{_RESTORING}"


def unkept(database: str) -> str:
    """Where a restore copies the database before, until the copy is complete."""
    return f"{database}{_UNKEPT}"


def checked(database: str) -> str:
    """Where a check makes the copy that it looks at."""
    return f"{database}{_CHECKED}"


def with_companions(path: str) -> list[str]:
    """A database file's name, and those of what SQLite may make beside it."""
    return [path, *(f"{path}{suffix}" for suffix in COMPANIONS)]


def own_name(path: str, database: str) -> str | None:
    """The database's own name that a path stands for, whatever links lead there; or None.

    The file at the path need not exist, its folder must.
    """
    folder, name = os.path.split(path)
    real = os.path.join(os.path.realpath(folder), name)
    for own in _names(os.path.realpath(database)):
        if own == real or (
            os.path.exists(own) and os.path.exists(path) and os.path.samefile(own, path)
        ):
            return own
    return None


def _names(database: str) -> list[str]:
    found = with_companions(database) + [f"{database}{suffix}" for suffix in _ANNOUNCED]
    for suffix in _COPIES:
        found += with_companions(f"{database}{suffix}")
    return found
