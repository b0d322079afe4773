"""Thread names where tools outside of Python show them: ``top -H``, ``ps -L``, debuggers."""

import contextlib
import threading
from pathlib import Path
from typing import Final

_MOST_CHARACTERS: Final = 15


def show_name() -> None:
    """Give the calling thread its Python name in the kernel, too, where that is possible."""
    place = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    with contextlib.suppress(OSError):
        place.write_text(threading.current_thread().name[:_MOST_CHARACTERS], encoding="ascii")
