"""The locks that protect the database from other programs, and from a second daemon.

When a process closes *any* descriptor of the database, all its POSIX locks on it vanish, and
the next program to close the database then deletes the log under it: commits go on reporting
success, and nobody ever sees them. So the daemon keeps one descriptor of the database and one
of the shared-memory file open for life, and holds open-file-description locks on them:

- a write lock on a byte that SQLite never uses: one daemon per file, whatever path led to it;
- read locks on the bytes of SQLite's shared lock, and on the dead-man byte of the shared-memory
  file: nobody else can have the database for himself, remove its log or reset its index.

No other byte is locked: a read lock on SQLite's reader or writer bytes would stand in the way of
our own write connection. While the guard is held that connection, too, cannot have the file for
itself: the switch to write-ahead mode comes before it, and closing leaves the log in place.
"""

import contextlib
import fcntl
import logging
import os
from typing import Final

import msgspec

from sessiond.database import UnsafeFile
from sessiond.sqlite import file_locks, files, log_index, log_users
from sessiond.sqlite.file_state import Look
from sessiond.sqlite.location import check_single_name
from sessiond.sqlite.log_users import LockHolder, Role
from sessiond.sqlite.refusal import OpenRefused, Reason

log = logging.getLogger("sessiond.guard")

# From SQLite's file format: PENDING_BYTE is 0x40000000, RESERVED_BYTE follows, then the bytes of
# the shared lock. Byte 128 of the shared-memory file is its dead-man switch.
PENDING: Final = 0x4000_0000
SHARED_FIRST: Final = PENDING + 2
SHARED_SIZE: Final = 510
SHM_DEAD_MAN: Final = 128
DAEMON_BYTE: Final = 2**62

_DESCRIPTORS: Final = "/proc/self/fd"
_TRIES: Final = 8
_PIECE: Final = 1 << 20


class Held(Exception):
    """Another process holds the lock. ``pid`` is None where the kernel does not say."""

    def __init__(self, what: str, pid: int | None = None) -> None:
        super().__init__(f"{what} is locked by {file_locks.describe(pid)}")
        self.pid = pid


class Identity(msgspec.Struct, frozen=True):
    """A file by device and inode."""

    device: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Identity":
        """The file that was looked at."""
        return cls(found.st_dev, found.st_ino)

    @classmethod
    def at(cls, path: str) -> "Identity | None":
        """What lies at a path now; opens nothing."""
        try:
            return cls.of(os.stat(path))
        except OSError:
            return None

    def __str__(self) -> str:
        return f"{self.device}:{self.inode}"


class Guard:
    """The descriptors and locks of one database file, held until the process ends.

    ``path`` is a real path. Nothing here is ever closed once SQLite has the file open: not even
    when the guard object goes away. The process must not fork without exec afterwards.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.log_path = f"{path}-wal"
        self.shared_memory_path = f"{path}-shm"
        self.guarded = False
        self._database = -1
        self._shared_memory = -1
        self._fallback = -1
        self._files: dict[str, Identity] = {}
        self._looks: dict[str, Look] = {}
        self._seen = (-1, 0)  # the count of commits at the last look, and the database's size

    # --- the daemon's lock -----------------------------------------------------------------

    def take_daemon_lock(self) -> None:
        """Become the one daemon of this file, which is made if it is missing.

        Comes before SQLite opens the file. Raises :class:`Held`, then try again;
        :class:`OpenRefused` for a file with several names; ``OSError``.
        """
        for _ in range(_TRIES):
            if self._database < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                self._database = os.open(self.path, flags, 0o600)
            self._lock_for_daemon()
            found = os.fstat(self._database)
            if Identity.at(self.path) == Identity.of(found):
                check_single_name(self.path, found)
                return
            # Somebody put another file here in between. SQLite has nothing open yet, so closing
            # the old file loses no locks but our own on it.
            os.close(self._database)
            self._database = -1
        raise OpenRefused(Reason.IO, f"{self.path} keeps being replaced by another program")

    def _lock_for_daemon(self) -> None:
        if file_locks.supported():
            if not file_locks.take(self._database, file_locks.WRITE, DAEMON_BYTE, 1):
                raise Held(self.path)
            return
        # Without OFD locks: one daemon per path, at least. Not on the database itself, where
        # this kind of lock would meet SQLite's own on some systems.
        if self._fallback < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fallback = os.open(f"{self.path}.sessiond.lock", flags, 0o600)
        try:
            fcntl.flock(self._fallback, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(self.path) from None

    def let_go(self) -> None:
        """Give the daemon's lock back. Only while SQLite has nothing of the database open here."""
        for descriptor in (self._shared_memory, self._database, self._fallback):
            if descriptor >= 0:
                os.close(descriptor)
        self._shared_memory = self._database = self._fallback = -1

    @property
    def identity(self) -> Identity:
        """The database file that was locked."""
        return Identity.of(os.fstat(self._database))

    # --- the guard -------------------------------------------------------------------------

    def protect(self) -> None:
        """Guard the database and its log.

        Comes after SQLite switched the file to its log and committed once. Raises
        :class:`Held` while another program has the file for itself, then try again; and
        :class:`UnsafeFile` if SQLite has other files open than lie at the paths now. On a
        system without OFD locks it only notes the files; ``guarded`` stays False.
        """
        if file_locks.supported():
            try:
                self._open_shared_memory()
            except FileNotFoundError:
                raise UnsafeFile(f"{self.shared_memory_path} was deleted") from None
            self._take(self._database, self.path, SHARED_FIRST, SHARED_SIZE)
            self._take(self._shared_memory, self.shared_memory_path, SHM_DEAD_MAN, 1)
        self._remember()
        self.guarded = file_locks.supported()

    def _open_shared_memory(self) -> None:
        if self._shared_memory < 0:
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            self._shared_memory = os.open(self.shared_memory_path, flags)

    def _take(self, descriptor: int, path: str, first: int, size: int) -> None:
        if not file_locks.take(descriptor, file_locks.READ, first, size):
            raise Held(path, _exclusive_holder(descriptor, first, size))

    def _remember(self) -> None:
        """Note the files at the paths, which must be those that are open here."""
        opened = self._opened_by_sqlite()
        guarded = {self.path: self._database, self.shared_memory_path: self._shared_memory}
        for path in (self.path, self.log_path, self.shared_memory_path):
            found = Identity.at(path)
            descriptor = guarded.get(path, -1)
            if (
                found is None
                or (opened is not None and found not in opened)
                or (descriptor >= 0 and Identity.of(os.fstat(descriptor)) != found)
            ):
                raise UnsafeFile(f"{path} is not the file that SQLite has open any more")
            self._files[path] = found
            self._looks[path] = Look(path)

    def _opened_by_sqlite(self) -> dict[Identity, int] | None:
        """Our descriptors other than the guard's by what they have open; None: not known."""
        found: dict[Identity, int] = {}
        try:
            names = os.listdir(_DESCRIPTORS)
        except OSError:
            return None
        for descriptor in map(int, names):
            if descriptor not in (self._database, self._shared_memory):
                with contextlib.suppress(OSError):  # the listing's own, closed by now
                    found.setdefault(Identity.of(os.fstat(descriptor)), descriptor)
        return found

    # --- the alarm -------------------------------------------------------------------------

    def alarm(self, log_bytes: int = 0) -> str | None:
        """What is wrong with the files that are written to; None if nothing is.

        An alarm, not a protection: it is asked after the write lock is taken and again after
        each commit, before anybody is answered. Opens nothing. ``log_bytes`` is accepted for
        callers that know how much they wrote, and not needed: the shared memory says how long
        the log must be, also after another program has emptied it as it may.
        """
        sizes = {}
        for path, remembered in self._files.items():
            try:
                found = self._looks[path]()
            except OSError:
                return f"{path} was deleted while the daemon had it open"
            if found.inode != remembered.inode or found.device != remembered.device:
                return f"{path} was replaced while the daemon had it open"
            if found.links != 1 and path == self.path:
                return f"{path} has {found.links} names, a database must have one"
            sizes[path] = found.size
        index = self.log_index()
        if self._shared_memory >= 0 and self._shortage(index, sizes) is not None:
            return self._lasting_shortage()
        if index is not None:
            self._seen = index.changes, sizes[self.path]
        return None

    def _shortage(self, index: log_index.LogIndex | None, sizes: dict[str, int]) -> str | None:
        """Which file is shorter than the index says."""
        cut = "was cut while the daemon had it open"
        if sizes[self.shared_memory_path] < log_index.SIZE:
            return f"{self.shared_memory_path} {cut}"
        if index is None:
            return None
        wanted = max(index.database_bytes, self._unchanged_bytes(index))
        for path, least in ((self.log_path, index.log_bytes), (self.path, wanted)):
            if sizes[path] < least:
                return f"{path} {cut}: {sizes[path]} bytes are left of {least}"
        return None

    def _unchanged_bytes(self, index: log_index.LogIndex) -> int:
        """What the database had at the last look and must still have; 0 if that is not known.

        Without a commit in between only a checkpoint can have made it shorter, and then it has
        its pages now.
        """
        changes, size = self._seen
        return min(size, index.pages * index.page_size) if changes == index.changes else 0

    def _lasting_shortage(self) -> str | None:
        """A shortage that is none of another program's commits and checkpoints under way.

        It counts only if the index did not change while the sizes were looked at.
        """
        for _ in range(_TRIES):
            before = self.log_index()
            sizes = {path: files.size(path) for path in self._files}
            after = self.log_index()
            if sizes[self.shared_memory_path] < log_index.SIZE:
                return self._shortage(None, sizes)
            if before is not None and after is not None and before.moment == after.moment:
                return self._shortage(after, sizes)
        return None  # another program is busy here; the next look will tell

    def log_index(self) -> log_index.LogIndex | None:
        """How long the log is and who needs it; None while a writer is changing that."""
        if self._shared_memory < 0:
            return None
        return log_index.parse(os.pread(self._shared_memory, log_index.SIZE, 0))

    # --- after an alarm --------------------------------------------------------------------

    def save_orphaned_log(self, stamp: str) -> str | None:
        """Copy a log whose name is gone or leads elsewhere, through a descriptor of SQLite's.

        Nothing of the database is opened or closed. The copy's path, or None if the log is in
        its place or cannot be copied, which is logged.
        """
        wanted = self._files.get(self.log_path)
        if wanted is None or Identity.at(self.log_path) == wanted:
            return None
        descriptor = (self._opened_by_sqlite() or {}).get(wanted)
        if descriptor is None:
            return None
        target = f"{self.log_path}.orphan-{stamp}"
        try:
            _copy(descriptor, target)
        except OSError as error:
            log.critical("cannot save the log as %s: %s", target, error.strerror)
            return None
        return target

    def stray_log(self) -> str:
        """The identity of our log if it lies beside a database that is not ours any more.

        ``""`` if it does not. Opened with that database, its changes would be replayed into it.
        """
        database, wal = self._files.get(self.path), self._files.get(self.log_path)
        if wal is None or Identity.at(self.path) == database or Identity.at(self.log_path) != wal:
            return ""
        return str(wal) if files.size(self.log_path) > 0 else ""

    # --- who uses the log ------------------------------------------------------------------

    def lock_holders(self) -> list[LockHolder]:
        """Every process that reads or writes through the log now, our own included."""
        if self._shared_memory < 0:
            return []
        return log_users.lock_holders(self._shared_memory, self.log_index())

    def oldest_reader(self) -> LockHolder | None:
        """The reader that keeps most of the log from being moved into the database."""
        readers = [each for each in self.lock_holders() if each.frame is not None]
        return min(readers, key=lambda each: each.frame or 0, default=None)

    def readers(self) -> list[int]:
        """The pids of the log's readers, those that hold up most first; 0 is not known."""
        found = [each for each in self.lock_holders() if each.role is Role.READER]
        return list(dict.fromkeys(each.pid for each in found))

    def writer(self) -> LockHolder | None:
        """Who has SQLite's write lock."""
        writers = (each for each in self.lock_holders() if each.role is Role.WRITER)
        return next(writers, None)

    def blocker(self) -> str:
        """Who is in the way of writing or of having the file, for people; also before
        :meth:`protect`, but after SQLite has opened the file.
        """
        if file_locks.supported():
            # Kept from here on, for :meth:`protect`: closing it would drop SQLite's own locks.
            with contextlib.suppress(OSError):
                self._open_shared_memory()
        writer = self.writer()
        return file_locks.describe(writer.pid if writer is not None else self.exclusive_holder())

    def exclusive_holder(self) -> int | None:
        """The pid of another process that has the database itself locked; None if none is seen.

        For a database that is busy outside of write-ahead mode, or in another program's
        exclusive mode.
        """
        if self._database < 0 or not file_locks.supported():
            return None
        return _exclusive_holder(self._database, PENDING, 2 + SHARED_SIZE)


def _exclusive_holder(descriptor: int, first: int, size: int) -> int | None:
    locks = file_locks.holders(descriptor, first, size)
    pids = (lock.pid for lock in locks if lock.exclusive and lock.pid != os.getpid())
    return next(pids, None)


def refuse_stray_log(path: str, stray_log: str) -> None:
    """Raise :class:`OpenRefused` if the log beside a database is known to belong to another.

    ``stray_log`` is what :meth:`Guard.stray_log` said when the database was replaced. Comes
    before SQLite opens the file.
    """
    log_path = f"{path}-wal"
    if not stray_log or str(Identity.at(log_path)) != stray_log or files.size(log_path) == 0:
        return
    raise OpenRefused(
        Reason.DAMAGED,
        f"{path} was replaced while a daemon had it open, and {log_path} belongs to the file"
        " that was there before: move the log away to go on without it, or put back the file"
        " that it belongs to",
    )


def _copy(descriptor: int, target: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    copy = os.open(target, flags, 0o600)
    try:
        offset = 0
        while piece := os.pread(descriptor, _PIECE, offset):
            written = 0
            while written < len(piece):
                written += os.write(copy, piece[written:])
            offset += len(piece)
        os.fsync(copy)
    finally:
        os.close(copy)
