"""Programs run as people run them: at a terminal of 80 columns, or in a pipe."""

import errno
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Step = tuple[str, str | Callable[[], object]]

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
    after the step before it, and types, or calls, what stands beside it.
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
                    stream.write(act.encode())
                else:
                    act()
    _, waited = os.waitpid(pid, 0)
    assert steps == [], f"{steps[0][0]!r} was never shown: {raw!r}"
    return Seen(raw.decode(), os.waitstatus_to_exitcode(waited))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError as error:
        if error.errno == errno.EIO:  # how Linux says that the other side has left
            return b""
        raise
