"""Damage, told apart: of a search index, which can be made anew, or of the file itself."""

import contextlib
from typing import Final

import apsw

WORDS: Final = "messages_fts"
NEXT: Final = "sessiond_fts_next"
PAIRS: Final = "sessiond_cjk_fts"


class IndexDamaged(Exception):
    """A statement on a search index found it corrupt. The messages are sound.

    ``index`` is its name; a trigger of another program does not say which it was, so that its
    damage counts as that of ``messages_fts``.
    """

    def __init__(self, index: str, text: str) -> None:
        super().__init__(f"{index}: {text}")
        self.index = index
        self.text = text


class FileDamaged(Exception):
    """A statement outside the indexes found the file corrupt: nothing may be written any more."""


def damage_of(error: BaseException) -> IndexDamaged | FileDamaged | None:
    """What an error says about the file; None: nothing."""
    if isinstance(error, IndexDamaged | FileDamaged):
        return error
    if isinstance(error, apsw.NotADBError):
        return FileDamaged(str(error))
    if isinstance(error, apsw.CorruptError):
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_CORRUPT_VTAB:
            return IndexDamaged(WORDS, str(error))
        return FileDamaged(str(error))
    return None


# What a statement of ours on an index can fail with if the index is broken: FTS5 finds it corrupt,
# trips over a key it has already used, cannot be constructed, or misses one of its tables.
BROKEN: Final = (apsw.CorruptError, apsw.ConstraintError, apsw.SQLError)


class on_index(contextlib.AbstractContextManager[None]):  # noqa: N801 (used as a statement)
    """Around statements on one index: what is broken there is that index."""

    def __init__(self, index: str) -> None:
        self._index = index

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BROKEN):
            raise IndexDamaged(self._index, str(error)) from error


def write_out(connection: apsw.Connection, index: str) -> None:
    """Have FTS5 write what it has gathered, inside the block that names the index.

    Otherwise it is written at the next savepoint or statement that needs one, whatever index
    that is on, or inside the commit, whose errors leave open what became of it.
    """
    connection.execute(f"INSERT INTO {index} ({index}) VALUES ('flush')")
