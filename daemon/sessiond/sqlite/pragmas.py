"""The settings of the write connection, each with its reason."""

import ctypes

import apsw

from sessiond.sqlite.ask import value
from sessiond.sqlite.judge import Mode
from sessiond.sqlite.refusal import OpenRefused, Reason


def use_write_ahead_log(connection: apsw.Connection) -> None:
    """Readers and the writer do not wait for each other, and a commit is one sync of one file.

    The switch of a file that is not yet in this mode needs it alone for a moment: raises
    ``apsw.BusyError`` while another program uses it; the caller may try again.
    """
    found = value(connection, "PRAGMA journal_mode=WAL")
    if found != "wal":
        raise OpenRefused(
            Reason.IO,
            f"{connection.filename} stays in journal mode {found}: its file system has no shared"
            " memory, which the mode wal needs",
        )


def set_durability(connection: apsw.Connection, *, full: bool) -> None:
    """With ``full`` each commit is synced before it returns; else only checkpoints sync.

    Not inside a transaction: SQLite refuses the change there.
    """
    connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")


def enforce_foreign_keys(connection: apsw.Connection) -> None:
    """A message without its session is refused. SQLite's default is off, per connection."""
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)


def checkpoint_by_hand(connection: apsw.Connection) -> None:
    """An automatic checkpoint would run inside somebody's commit and delay its answer."""
    connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()


def never_wait(connection: apsw.Connection) -> None:
    """SQLite's own waiting knows no deadline, no stop flag and no heartbeat; the writer's does."""
    connection.set_busy_timeout(0)


def keep_log_file(connection: apsw.Connection) -> None:
    """The log file stays on close, emptied, so that read-only openers find it.

    Without a size limit an old log would stay at full length beside the database. Whoever
    decides about checkpoints may raise it.
    """
    on = ctypes.c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(on))
    connection.execute("PRAGMA journal_size_limit=0").fetchall()


def set_memory(connection: apsw.Connection, cache_kib: int) -> None:
    """Room for a batch's pages, and for its sorting: nothing is written out before the commit."""
    connection.execute(f"PRAGMA cache_size=-{cache_kib}").fetchall()
    connection.execute("PRAGMA temp_store=MEMORY")


def distrust_schema(connection: apsw.Connection) -> None:
    """A crafted file's triggers and views may not call functions with side effects.

    Defensive mode keeps every statement away from the shadow tables of the search indexes and
    from ``sqlite_schema``: a slip there would be a corrupt file.
    """
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)


def set_triggers(connection: apsw.Connection, mode: Mode) -> None:
    """Triggers run only where another program's index depends on them.

    May be called inside a transaction and holds for statements that are already prepared.
    Foreign-key actions run in either case.
    """
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, int(mode is Mode.FOREIGN))


def configure(connection: apsw.Connection, cache_kib: int) -> None:
    """Everything but the journal mode and the triggers; changes nothing in the file."""
    never_wait(connection)
    checkpoint_by_hand(connection)
    set_durability(connection, full=True)
    enforce_foreign_keys(connection)
    set_memory(connection, cache_kib)
    distrust_schema(connection)
