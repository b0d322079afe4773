"""Programs run as people run them: at a terminal of 80 columns, or in a pipe."""

import errno
import fcntl
import os
import pty
import re
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemon import PATIENCE

Step = tuple[str, str | Callable[[], object]]

INTERRUPT = "\x03"  # Ctrl-C

_STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a terminal got, as it came, and what the program ended with."""

    raw: str
    status: int

    @property
    def text(self) -> str:
        """Without colours and other steering."""
        return _STYLE.sub("", self.raw).replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def at_terminal(
    words: Sequence[str],
    *,
    columns: int = 80,
    answer: str = "",
    then: Sequence[Step] = (),
    environment: Mapping[str, str],
) -> Seen:
    """Run a program whose input and output are a terminal.

    ``answer`` is typed at once. Each step of ``then`` waits for its text, which has to be shown
    after the step before it, and types, or calls, what stands beside it. A key that interrupts is
    typed once the program sleeps: Python overlooks one between a prompt and the read of its answer
    until the next key.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            size = struct.pack("HHHH", 24, columns, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execve(words[0], list(words), dict(environment))
        finally:
            os._exit(127)
    with os.fdopen(terminal, "r+b", buffering=0) as stream:
        if answer:
            stream.write(answer.encode())
        raw = b""
        begin, steps = 0, list(then)
        while part := _read(stream.fileno()):
            raw += part
            if steps and steps[0][0].encode() in raw[begin:]:
                begin, act = len(raw), steps.pop(0)[1]
                if isinstance(act, str):
                    if act == INTERRUPT:
                        _until_asleep(pid)
                    stream.write(act.encode())
                else:
                    act()
    _, waited = os.waitpid(pid, 0)
    assert steps == [], f"{steps[0][0]!r} was never shown: {raw!r}"
    return Seen(raw.decode(), os.waitstatus_to_exitcode(waited))


def _until_asleep(pid: int) -> None:
    """Until the main thread of a process has slept, without a break, from one look to the next."""
    before = None
    deadline = time.monotonic() + PATIENCE
    while (now := _sleep(pid)) is None or now != before:
        assert time.monotonic() < deadline, f"{pid} never sleeps"
        before = now
        time.sleep(0.05)


def _sleep(pid: int) -> tuple[str, ...] | None:
    """Which of its sleeps a main thread is in, by how often it slept and was put aside; or none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:  # no such folder: a system other than Linux
        return ()
    switches = re.findall(r"ctxt_switches:\s*(\d+)", status)
    return tuple(switches) if re.search(r"^State:\s+S", status, re.MULTILINE) else None


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError as error:
        if error.errno == errno.EIO:  # how Linux says that the other side has left
            return b""
        raise
