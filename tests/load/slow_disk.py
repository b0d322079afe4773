"""A disk whose syncs take longer, for programs that are to be compared on one.

What the ratios come to depends on how long a sync takes: some 0.1 ms on a virtual machine whose
host has memory to write to, one to several on the drives of laptops, ten on turning ones. The
programs run on the disk that is there, with a library before the system's own in which each sync
takes so much longer.
"""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_suffix(".c")


class NoCompiler(Exception):
    """The library cannot be built; the text says why, for people."""


def slow_disk(folder: Path, milliseconds: float) -> dict[str, str]:
    """The environment in which a program's syncs take so much longer; builds into ``folder``.

    Raises :class:`NoCompiler`.
    """
    library = folder / "slow_disk.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    words = [*compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        raise NoCompiler(
            f"a slow disk needs a C compiler: {compiler[0]}: {error.strerror}"
        ) from error
    if done.returncode != 0:
        raise NoCompiler(f"a slow disk needs a C compiler: {done.stderr.strip()[-1000:]}")
    return {"LD_PRELOAD": str(library), "SLOW_DISK_MICROSECONDS": f"{milliseconds * 1000:.0f}"}
