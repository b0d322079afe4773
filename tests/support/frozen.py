"""Freezing one thread of another process, as a disk that never answers would."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# From ptrace(2) and waitpid(2).
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_DETACH: Final = 17
_ALL: Final = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def thread_of(pid: int, name: str) -> int:
    """The thread of a process that has this name."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise AssertionError(f"process {pid} has no thread {name!r}")


@contextmanager
def frozen(thread: int) -> Iterator[Callable[[], object]]:
    """Keep a thread from running.

    If its process ends meanwhile, call what this yields until it is gone: until then the kernel
    keeps the dead thread for us, and its process with it.
    """

    def bury() -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(thread, _ALL | os.WNOHANG)

    _ptrace(_SEIZE, thread)
    try:
        _ptrace(_INTERRUPT, thread)
        os.waitpid(thread, _ALL)
        yield bury
    finally:
        with contextlib.suppress(ProcessLookupError):
            _ptrace(_DETACH, thread)
        bury()


def _ptrace(request: int, thread: int) -> None:
    if _libc.ptrace(request, thread, None, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
