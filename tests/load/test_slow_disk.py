"""The slow disk of the benchmark: syncs are carried out, told truly, and take longer."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.load.compare import main
from tests.load.slow_disk import slow_disk

COMPILER = shlex.split(os.environ.get("CC", "cc"))[0]

needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER) is None or not sys.platform.startswith("linux"),
    reason=f"needs Linux and the C compiler {COMPILER}: apt install gcc",
)

# What a sync does to a descriptor that is none, and that each sync sleeps: a sleep never ends
# before its time, however busy the machine is.
PROGRAM = """
import errno, os, sys, time
with open(sys.argv[1], "wb") as file:
    for sync in (os.fsync, os.fdatasync):
        started = time.monotonic()
        sync(file.fileno())
        assert time.monotonic() - started >= 0.02, sync
for sync in (os.fsync, os.fdatasync):
    try:
        sync(999)
    except OSError as error:
        assert error.errno == errno.EBADF
    else:
        raise AssertionError("synced a descriptor that is not open")
"""


@needs_compiler
def test_every_sync_takes_longer_and_says_how_it_went(tmp_path: Path) -> None:
    environment = slow_disk(tmp_path, 20)
    assert environment["SLOW_DISK_MICROSECONDS"] == "20000"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "file")],
        env=os.environ | environment,
        check=True,
        timeout=60,
    )


def test_without_a_compiler_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    with pytest.raises(SystemExit, match=r"a slow disk needs a C compiler: .*no-compiler"):
        main(["--sync-ms", "1", "--folder", str(tmp_path)])
