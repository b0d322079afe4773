"""Starting a daemon: one starter among many, and an error that helps when it fails."""

import contextlib
import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from sessiond_client._clock import clock
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State, StateFile

IDLE_EXIT: Final = "10min"
ALREADY_SERVED: Final = os.EX_TEMPFAIL
LAST_LINES: Final = 8
LOOK_SECONDS: Final = 0.02
LEAST_SECONDS: Final = 1.0  # given up sooner, the daemon would not even be in the background

# What a service manager gives a program is meant for that program, not for what it starts.
_OF_A_SERVICE: Final = frozenset(
    {
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)

# By database: the command, its log, and how much of that was there before.
_wanted: dict[str, tuple[list[str], Path, int]] = {}


def log_path(database: str) -> Path:
    """Where a daemon that is started from a program logs."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    name = blake2b(os.fsencode(database), digest_size=8).hexdigest()
    return Path(home) / "sessiond" / f"{name}.log"


def command(database: str, socket: str | None, settings: Mapping[str, Any]) -> list[str]:
    """The command line of the daemon that is wanted.

    ``-P``: Python must not take modules from the directory that the program happens to be in.
    """
    words = [sys.executable, "-P", "-m", "sessiond", "serve", "--database", database]
    if socket is not None:
        words += ["--socket", socket]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def start_daemon(
    database: str, socket: str | None, settings: Mapping[str, Any], remaining: float
) -> str | None:
    """Have a daemon serve ``database``; None, or why it does not.

    None also if it is migrating the file, or still on its way after ``remaining`` seconds. Of
    many processes that want one at once, one starts it and the others wait for what becomes of
    that. It has its own session, outlives the caller, and leaves after ten idle minutes or
    ``SESSIOND_IDLE_EXIT``.
    """
    words = command(database, socket, settings)
    log = log_path(database)
    _wanted[database] = words, log, _size(log)
    until = clock() + max(LEAST_SECONDS, remaining)
    try:
        os.makedirs(os.path.dirname(database), mode=0o700, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(log.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return _told(f"{error.filename}: {error.strerror}", words, [])
    try:
        if not _locked(lock):
            return _of_another(lock, until)
        os.ftruncate(lock, 0)
        failure = _start(database, words, log, until)
        if failure is not None:
            os.pwrite(lock, os.fsencode(failure), 0)
        return failure
    finally:
        os.close(lock)


def plight(database: str) -> str | None:
    """What is known of a daemon that this process wanted and that does not answer.

    None if it wanted none.
    """
    found = _wanted.get(database)
    if found is None:
        return None
    words, log, logged = found
    return _told("a daemon was started and does not answer yet", words, _written(log, logged))


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _of_another(lock: int, until: float) -> str | None:
    """Wait for the process that is starting the daemon; its failure is everybody's.

    It leaves the reason in the lock file, which the next one that starts a daemon empties.
    """
    while not _locked(lock):
        if clock() >= until:
            return None
        time.sleep(LOOK_SECONDS)
    return os.fsdecode(os.pread(lock, 65536, 0)) or None


def _start(database: str, words: list[str], log: Path, until: float) -> str | None:
    full = [*words, "--detach", "--log-file", str(log)]
    if not os.environ.get("SESSIOND_IDLE_EXIT"):
        full += ["--idle-exit", IDLE_EXIT]
    logged, noted = _size(log), _noted(database)
    try:
        process = subprocess.Popen(
            full,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={name: value for name, value in os.environ.items() if name not in _OF_A_SERVICE},
        )
    except OSError as error:
        return _told(str(error), words, [])
    with process:
        try:
            said = _outcome(process, lambda: clock() >= until or _is_migrating(database, noted))
        finally:
            process.kill()  # it has ended, or only waits for what goes on in the background
    if said is None or process.returncode in (0, ALREADY_SERVED):
        return None
    written = _written(log, logged)
    lines = [line for line in said.splitlines() if not _is_among(line, written)]
    return _told(f"it ended with status {process.returncode}", words, lines + written)


def _outcome(process: subprocess.Popen[str], enough: Callable[[], bool]) -> str | None:
    """What was said until the end; None if there was enough of waiting."""
    while not enough():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=LOOK_SECONDS)[1]
    return None


def _noted(database: str) -> StateFile | None:
    return state_file.read(paths.state_file(database))


def _is_migrating(database: str, before: StateFile | None) -> bool:
    """Whether the daemon accepts connections already, only to say how long it will take."""
    found = _noted(database)
    return found is not None and found != before and found.state is State.MIGRATING


def _is_among(line: str, written: list[str]) -> bool:
    """Whether the log has what was said on standard error, too."""
    return any(each.endswith(line.removeprefix("sessiond: ")) for each in written)


def _told(why: str, words: list[str], said: list[str]) -> str:
    """The reason, what to run to see it for oneself, and the daemon's last lines."""
    lines = [f"{why}, run it yourself: {shlex.join(words)}", *said[-LAST_LINES:]]
    return "\n  ".join(lines)


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0


def _written(log: Path, before: int) -> list[str]:
    """What was logged since: an earlier daemon's troubles are not this one's."""
    try:
        with log.open("rb") as file:
            file.seek(before)
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
