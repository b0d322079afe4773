"""Opening a database file for writing, in the order that keeps it safe.

The daemon takes its lock on the file first, then :func:`open_database`,
an :class:`Upgrade`, :func:`start_commit`, and only then guards the log. Nothing is
answered before the start commit: its sync makes durable what SQLite found in a log that a
killed process may never have synced.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Final

import apsw
import msgspec

from sessiond.sqlite import files, pragmas
from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.backup import backup_before_migration
from sessiond.sqlite.judge import Verdict, look
from sessiond.sqlite.location import checked_path
from sessiond.sqlite.migrations import (
    CREATE,
    Plan,
    ensure_meta,
    migrate,
    plan,
    refuse_unusable,
)
from sessiond.sqlite.refusal import OpenRefused, Reason

Progress = Callable[[str, float], None]
Hook = Callable[[str], None]

_REASONS: Final[dict[type[apsw.Error], tuple[Reason, str]]] = {
    apsw.NotADBError: (Reason.NOT_OURS, "is not a SQLite database, or an encrypted one"),
    apsw.CorruptError: (Reason.DAMAGED, "is damaged"),
    apsw.FormatError: (Reason.DAMAGED, "is damaged"),
    apsw.CantOpenError: (Reason.NO_ACCESS, "cannot be opened"),
    apsw.PermissionsError: (Reason.NO_ACCESS, "cannot be opened"),
    apsw.AuthError: (Reason.NO_ACCESS, "cannot be opened"),
    apsw.ReadOnlyError: (Reason.NO_ACCESS, "cannot be written"),
    apsw.FullError: (Reason.NO_SPACE, "cannot be opened, its file system is full"),
    apsw.IOError: (Reason.IO, "cannot be read"),
}


class Start(msgspec.Struct, frozen=True):
    """The file's identity after the start commit; ``renewed``: it has a new generation."""

    generation: bytes
    commits: int
    starts: int
    renewed: bool


def open_database(
    path: str | os.PathLike[str], *, cache_kib: int = 16_384, allow_network_fs: bool = False
) -> apsw.Connection:
    """The write connection to a file, settings made, in write-ahead mode, schema untouched.

    A missing file is made, empty. Triggers are still enabled: migrations of a file whose
    triggers are another program's need them; :func:`sessiond.sqlite.pragmas.set_triggers`
    follows when the schema is judged. Raises :class:`OpenRefused`, with nothing changed, for
    what is not a session database or may not be written here; ``apsw.BusyError`` while another
    program holds the file alone (then try again).
    """
    connection = connect(checked_path(path, allow_network_fs=allow_network_fs))
    try:
        with refusing(connection.filename):
            pragmas.configure(connection, cache_kib)
            pragmas.use_write_ahead_log(connection)
            pragmas.keep_log_file(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: str) -> apsw.Connection:
    """Open a file whose path was checked, and recognise it by reading; changes nothing."""
    with refusing(path):
        connection = apsw.Connection(
            path, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        )
    # Whoever is refused leaves a log that another program left as it is.
    unread_log = files.size(f"{path}-wal") > 0
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(unread_log))
        with refusing(path):
            recognise(connection)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    except BaseException:
        connection.close()
        raise
    return connection


def recognise(connection: apsw.Connection) -> Verdict:
    """The schema's verdict for a file of ours or an empty one; others raise OpenRefused."""
    path = connection.filename
    if connection.readonly("main"):
        raise OpenRefused(Reason.NO_ACCESS, f"{path} cannot be written by uid {os.geteuid()}")
    return judged(connection)


def judged(connection: apsw.Connection) -> Verdict:
    """The same for a file that need not be written."""
    path = connection.filename
    application = value(connection, "PRAGMA application_id")
    if application != 0:
        raise OpenRefused(
            Reason.NOT_OURS,
            f"{path} belongs to another program (application id {application & 0xFFFFFFFF:#010x})",
        )
    verdict = look(connection)
    if verdict.is_empty:
        return verdict
    if not verdict.tables & {"sessions", "messages"}:
        others = ", ".join(sorted(verdict.tables - {"schema_version"})[:5])
        raise OpenRefused(
            Reason.NOT_OURS,
            f"{path} is not a session database: it has no tables sessions and messages"
            + (f", but {others}" if others else ""),
        )
    try:
        refuse_unusable(verdict)
    except OpenRefused as refused:
        raise OpenRefused(refused.reason, f"{path}: {refused.message}") from refused
    return verdict


class Upgrade:
    """Brings a file up to date, over as many attempts as another program's lock makes necessary.

    What was announced and backed up once is not announced and backed up again. ``announce``
    gets the plan before anything is done, if a file that exists is to be changed. An empty file
    becomes one of the current version.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        announce: Callable[[Plan], None] = lambda _plan: None,
        progress: Progress = lambda _step, _fraction: None,
        hook: Hook = lambda _step: None,
    ) -> None:
        self._connection = connection
        self._announce = announce
        self._progress = progress
        self._hook = hook
        self._announced = False
        self._backed_up = False

    def attempt(self) -> Plan:
        """Back up and migrate as far as needed; returns the plan that was carried out.

        ``apsw.BusyError``: call again.
        """
        connection = self._connection
        path = connection.filename
        with refusing(path):
            wanted = plan(connection)
            if not wanted.steps:
                return wanted
            if not self._announced and wanted.steps != CREATE:
                self._announced = True
                self._announce(wanted)
            if wanted.backup and not self._backed_up:
                version = wanted.from_version
                backup_before_migration(connection, path, version, self._progress, self._hook)
                self._backed_up = True
            migrate(connection, wanted, self._progress, self._hook)
            return wanted


def bring_up_to_date(
    connection: apsw.Connection,
    announce: Callable[[Plan], None] = lambda _plan: None,
    progress: Progress = lambda _step, _fraction: None,
    hook: Hook = lambda _step: None,
) -> Plan:
    """One attempt of an :class:`Upgrade`; ``apsw.BusyError``: call again."""
    return Upgrade(connection, announce, progress, hook).attempt()


def start_commit(connection: apsw.Connection, known_commits: int | None = None) -> Start:
    """The daemon's first act on a file: a commit of its own, synced whatever the setting.

    ``known_commits`` is the number of commits that the state file beside the database
    remembers. A file that has fewer went back (a restored copy, a lost tail), as did one whose
    next message id was given before: both get a new generation, so that nobody goes on from
    what is no longer there. Afterwards ``synchronous`` is FULL. ``apsw.BusyError``: call again.
    Any other ``apsw.Error`` leaves open whether the commit will be found: end the process.
    """
    pragmas.set_durability(connection, full=True)
    connection.execute("BEGIN IMMEDIATE")
    try:
        ensure_meta(connection)
        commits, starts = rows(connection, "SELECT commits, starts FROM sessiond_meta")[0]
        went_back = known_commits is not None and commits < known_commits
        renewed = mend_sequence(connection) or went_back
        if renewed:
            connection.execute("UPDATE sessiond_meta SET generation = ?", (os.urandom(16),))
        connection.execute(
            "UPDATE sessiond_meta SET commits = ?, starts = ?",
            (max(commits, known_commits or 0) + 1, starts + 1),
        )
        meta = rows(connection, "SELECT generation, commits, starts FROM sessiond_meta")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    generation, commits, starts = meta[0]
    return Start(generation, commits, starts, renewed or starts == 1)


def mend_sequence(connection: apsw.Connection) -> bool:
    """Whether ids could be given twice: ``sqlite_sequence`` was behind the highest id."""
    try:
        found = rows(
            connection,
            "SELECT (SELECT max(seq) FROM sqlite_sequence WHERE name = 'messages'),"
            " (SELECT max(id) FROM messages)",
        )
    except apsw.SQLError:
        return False  # a table without AUTOINCREMENT, made by somebody else
    sequence, highest = found[0]
    if highest is None or (sequence is not None and sequence >= highest):
        return False
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'messages'")
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('messages', ?)", (highest,))
    return True


class refusing(contextlib.AbstractContextManager[None]):  # noqa: N801 (used as a statement)
    """Turns SQLite's errors about a file into :class:`OpenRefused`; a busy file stays one."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for type_, (reason, what) in _REASONS.items():
            if isinstance(error, type_):
                raise OpenRefused(reason, f"{self._path} {what}: {error}") from error
