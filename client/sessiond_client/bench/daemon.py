"""A daemon to measure: started for the purpose as a program, or one that runs; what it used."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sessiond_client import SessionDB
from sessiond_client.bench.store import Target
from sessiond_protocol.errors import SessiondError

_STARTING: Final = 30.0
_STOPPING: Final = 60.0
# One try to connect: between two tries it is asked whether the daemon still lives.
_ATTEMPT: Final = 0.25
_PROC_STAT_NAME_END: Final = b")"


class DidNotStart(Exception):
    """The daemon did not come up; the text is what it said."""


@contextlib.contextmanager
def scratch_daemon(folder: Path, options: Sequence[str] = ()) -> Iterator[Target]:
    """A daemon on a new database in ``folder``, which must exist; stopped at the end.

    ``options`` are further arguments of ``sessiond serve``.
    """
    target = Target(folder / "state.db", folder / "sock", "auto")
    log = folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "sessiond", "serve", "--database", str(target.database),
             "--socket", str(target.socket), *options],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True,  # Ctrl-C is for the caller, who stops it
        )  # fmt: skip
    try:
        _await(process, target, log)
        yield target
    finally:
        _stop(process)


def _await(process: "subprocess.Popen[bytes]", target: Target, log: Path) -> None:
    """Return when it answers; DidNotStart when it ends before that, or takes too long."""
    until = time.monotonic() + _STARTING
    arguments: dict[str, Any] = {**target.arguments, "timeout": _ATTEMPT}
    while True:
        try:
            with SessionDB(**arguments) as db:
                db.get_stats()
                return
        except SessiondError as error:
            if process.poll() is not None:
                raise DidNotStart(log.read_text("utf-8", "replace").strip()[-2000:]) from error
            if not error.retryable or time.monotonic() > until:
                raise


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOPPING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(frozen=True, slots=True)
class Look:
    """A daemon at one moment: its statistics, and processor seconds used so far (None: unknown)."""

    stats: dict[str, Any]
    cpu_seconds: float | None

    @classmethod
    def at(cls, db: SessionDB) -> "Look":
        """Ask it now."""
        stats = db.get_stats()
        return cls(stats, cpu_seconds(stats["pid"]))


def cpu_seconds(pid: int) -> float | None:
    """Processor time of a process on this machine, all its threads together."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(_PROC_STAT_NAME_END)[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """What a process holds in memory now."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def used(before: Look, after: Look) -> dict[str, Any]:
    """What a daemon did and used between two looks."""
    batches, sizes = _batches(before.stats["writer"], after.stats["writer"])
    cpu = None
    if before.cpu_seconds is not None and after.cpu_seconds is not None:
        cpu = round(after.cpu_seconds - before.cpu_seconds, 4)
    return {
        "cpu_seconds": cpu,
        "resident_bytes": resident_bytes(after.stats["pid"]),
        "max_resident_bytes": after.stats["max_resident_bytes"],
        "log_bytes": after.stats["log"]["bytes"],
        "batches": batches,
        "batch_size": sizes,
    }


def _batches(before: dict[str, Any], after: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """How many batches there were, and how many had up to so many requests."""
    old, new = before["batch_size"], after["batch_size"]
    count = new["count"] - old["count"]
    counts = [now - then for then, now in zip(old["buckets"], new["buckets"], strict=True)]
    names = [str(bound) for bound in new["bounds"]] + ["more"]
    mean = (new["sum"] - old["sum"]) / count if count else 0.0
    return count, {
        "mean": round(mean, 2),
        "up_to": {name: number for name, number in zip(names, counts, strict=True) if number},
    }
