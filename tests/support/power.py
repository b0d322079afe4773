"""Files that lose what was not synced, and syncs and writes that fail: VFS layers for SQLite.

The files themselves hold what the process has written, as the page cache does. A second folder
holds, for each of them, what lies on the disk: a sync copies it over. A power cut leaves that,
and of everything that was written since any part, sector by sector.
"""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import apsw

SECTOR = 512


def die() -> NoReturn:
    """End this process as a power cut or the kernel does: at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


class Countdown:
    """True once, for the ``at``-th call; never without a number."""

    def __init__(self, at: int | None) -> None:
        self._left = at

    def __call__(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left == 0


class Disk:
    """What is known of the disk below: shared by all files of one process.

    ``die_after`` counts operations from the beginning; the others count those on the log, or for
    ``at_checkpoint`` writes to the database, since :meth:`arm`. Then ``act`` is called.
    """

    def __init__(
        self,
        durable: Path | None,
        die_after: int | None = None,
        fail_sync: int | None = None,
        fail_write: int | None = None,
        die_at_sync: int | None = None,
        at_checkpoint: int | None = None,
        act: Callable[[], object] = die,
    ) -> None:
        self.durable = durable
        self.dies_now = Countdown(die_after)
        self._fail_sync, self._fail_write = Countdown(fail_sync), Countdown(fail_write)
        self._die_at_sync, self._at_checkpoint = Countdown(die_at_sync), Countdown(at_checkpoint)
        self._act = act
        self._armed = False

    def arm(self) -> None:
        """Begin to count."""
        self._armed = True

    def before_write(self, is_log: bool) -> bool:
        """Count a write; True if it fails."""
        if not self._armed:
            return False
        if is_log:
            return self._fail_write()
        if self._at_checkpoint():
            self._act()
        return False

    def before_log_sync(self) -> bool:
        """Count a sync of the log; True if it fails."""
        if not self._armed:
            return False
        if self._die_at_sync():
            die()
        return self._fail_sync()

    def synced(self, path: Path) -> None:
        """The file is on the disk as it is now, but for pages that an earlier sync has lost."""
        if self.durable is None:
            return
        target = self.durable / path.name
        now, before = path.read_bytes(), _bytes_of(target)
        lost = self._lost(path)
        image = bytearray(now)
        for sector in lost:
            start = sector * SECTOR
            image[start : start + SECTOR] = before[start : start + SECTOR].ljust(
                len(now[start : start + SECTOR]), b"\0"
            )
        aside = target.with_suffix(".aside")
        aside.write_bytes(image)
        aside.replace(target)

    def sync_failed(self, path: Path) -> None:
        """What was not on the disk yet counts as written all the same, and never gets there."""
        if self.durable is None:
            return
        now, before = path.read_bytes(), _bytes_of(self.durable / path.name)
        lost = self._lost(path) | set(_differing(now, before))
        self._lost_file(path).write_text("\n".join(map(str, sorted(lost))))

    def written(self, path: Path, offset: int, size: int) -> None:
        """Pages that are written again are dirty again, whatever happened to them before."""
        if self.durable is None or not self._lost_file(path).exists():
            return
        again = range(offset // SECTOR, (offset + size - 1) // SECTOR + 1)
        lost = self._lost(path).difference(again)
        self._lost_file(path).write_text("\n".join(map(str, sorted(lost))))

    def _lost_file(self, path: Path) -> Path:
        assert self.durable is not None
        return self.durable / f"{path.name}.lost"

    def _lost(self, path: Path) -> set[int]:
        file = self._lost_file(path)
        return set(map(int, file.read_text().split())) if file.exists() else set()


class File(apsw.VFSFile):
    """A database or a log on a :class:`Disk`."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = Path(name.filename() if isinstance(name, apsw.URIFilename) else str(name))
        self._is_log = self._path.name.endswith("-wal")

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Write, die half-way, or fail."""
        if self._disk.dies_now():
            super().xWrite(bytes(data[: len(data) // 2]), offset)
            die()
        if self._disk.before_write(self._is_log):
            raise apsw.IOError(f"write to {self._path.name} failed")
        super().xWrite(data, offset)
        self._disk.written(self._path, offset, len(data))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        """Cut, or die before."""
        if self._disk.dies_now():
            die()
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Bring everything to the disk, die before, or fail."""
        if self._disk.dies_now():
            die()
        if self._is_log and self._disk.before_log_sync():
            self._disk.sync_failed(self._path)
            raise apsw.IOError(f"sync of {self._path.name} failed")
        super().xSync(flags)
        self._disk.synced(self._path)


class VFS(apsw.VFS):
    """Opens databases and logs on a disk; everything else as usual. The process's default."""

    def __init__(self, disk: Disk) -> None:
        super().__init__("power", "unix", makedefault=True)
        self._disk = disk

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """A file on the disk, if it is one that must survive."""
        if flags[0] & (apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL):
            return File(self._disk, name, flags)
        return apsw.VFSFile("unix", name, flags)


def cut_power(database: Path, durable: Path, seed: int | None = None) -> None:
    """Leave of a database's files what a power cut would; no process has them open any more.

    Without a seed nothing that was not synced is left; with one any part of it may be.
    """
    chance = None if seed is None else random.Random(seed)
    for path in (database, database.with_name(f"{database.name}-wal")):
        now, before = _bytes_of(path), _bytes_of(durable / path.name)
        image = before
        if chance is not None:
            size = chance.choice((len(now), len(before)))
            image = bytes(_mixed(chance, now, before, size))
        aside = path.with_name(f"{path.name}.image")
        aside.write_bytes(image)
        aside.replace(path)
        (durable / path.name).write_bytes(image)
    database.with_name(f"{database.name}-shm").unlink(missing_ok=True)
    for lost in durable.glob("*.lost"):
        lost.unlink()


def _mixed(chance: random.Random, now: bytes, before: bytes, size: int) -> bytearray:
    image = bytearray(before.ljust(size, b"\0")[:size])
    for sector in _differing(now, before):
        start = sector * SECTOR
        piece = now[start : min(start + SECTOR, size)]
        if chance.random() < 0.5:
            image[start : start + len(piece)] = piece
    return image


def _differing(now: bytes, before: bytes) -> list[int]:
    sectors = range((max(len(now), len(before)) + SECTOR - 1) // SECTOR)
    return [
        sector
        for sector in sectors
        if now[sector * SECTOR : (sector + 1) * SECTOR]
        != before[sector * SECTOR : (sector + 1) * SECTOR]
    ]


def _bytes_of(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
