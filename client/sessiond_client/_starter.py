"""Starting a daemon: one starter among many, and an error that helps when it fails."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

IDLE_EXIT: Final = "10min"
ALREADY_SERVED: Final = os.EX_TEMPFAIL
LAST_LINES: Final = 8


def log_path(database: str) -> Path:
    """Where a daemon that is started from a program logs."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    name = blake2b(os.fsencode(database), digest_size=8).hexdigest()
    return Path(home) / "sessiond" / f"{name}.log"


def command(database: str, socket: str | None, settings: Mapping[str, Any]) -> list[str]:
    """The command line of the daemon that is wanted."""
    words = [sys.executable, "-m", "sessiond", "serve", "--database", database]
    if socket is not None:
        words += ["--socket", socket]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def start_daemon(
    database: str, socket: str | None, settings: Mapping[str, Any], remaining: float
) -> str | None:
    """Have a daemon serve ``database``; None, or why it does not.

    Of many processes that want one at once, one starts it and the others go on looking for it.
    It has its own session, outlives the caller, and leaves after ten idle minutes.
    """
    os.makedirs(os.path.dirname(database), mode=0o700, exist_ok=True)
    log = log_path(database)
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(log.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None  # somebody else is starting it
        return _start(command(database, socket, settings), log, remaining)
    finally:
        os.close(lock)


def _start(words: list[str], log: Path, remaining: float) -> str | None:
    full = [*words, "--detach", "--idle-exit", IDLE_EXIT, "--log-file", str(log)]
    try:
        started = subprocess.run(
            full,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(1.0, remaining),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{error}; run it yourself to see why: {' '.join(words)}"
    if started.returncode in (0, ALREADY_SERVED):
        return None
    said = (started.stderr.strip().splitlines() + _tail(log))[-LAST_LINES:]
    return "\n  ".join(
        [f"it ended with status {started.returncode}, run it yourself: {' '.join(words)}", *said]
    )


def _tail(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    except OSError:
        return []
