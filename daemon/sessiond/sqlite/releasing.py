"""Giving memory back while nobody writes.

A load leaves the page cache full, and the allocator with room that it may never need again. The
next write reads its pages from the system's cache, which costs less than a millisecond.
"""

import ctypes
from collections.abc import Callable
from typing import Final

from sessiond.sqlite.access import WriteAccess
from sessiond.stats import resident_bytes

QUIET_SECONDS: Final = 1.0
WORTH_BYTES: Final = 16 << 20  # less is kept: somebody who writes now and then finds it warm


def trim() -> None:
    """Have the C library give free memory back to the system, where it can do that."""
    try:
        call = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return  # not glibc
    call(ctypes.c_size_t(0))


class Releasing:
    """Once after each load. Only the writer thread uses it.

    ``resident`` says how many bytes the process holds, 0 where the system does not tell.
    """

    def __init__(
        self,
        access: WriteAccess,
        clock: Callable[[], float],
        resident: Callable[[], int] = resident_bytes,
        give_back: Callable[[], None] = trim,
    ) -> None:
        self._access = access
        self._clock = clock
        self._resident = resident
        self._give_back = give_back
        self._left = resident()
        self._commits = access.meta.committed.commits
        self._quiet_since = clock()
        self._looked = True  # nothing was written since

    def step(self) -> bool:
        """Give memory back if it is time for it. False: there is never more to do at once."""
        now, commits = self._clock(), self._access.meta.committed.commits
        if commits != self._commits:
            self._commits, self._quiet_since, self._looked = commits, now, False
        if self._looked or now - self._quiet_since < QUIET_SECONDS:
            return False
        self._looked = True
        if self._resident() - self._left >= WORTH_BYTES:
            self._access.connection.release_memory()
            self._give_back()
            self._left = self._resident()
        return False
