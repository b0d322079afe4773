"""Programs run as people run them: at a terminal of 80 columns, or in a pipe."""

import errno
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    words: Sequence[str], *, columns: int = 80, answer: str = "", environment: Mapping[str, str]
) -> Seen:
    """Run a program whose input and output are a terminal; ``answer`` is what is typed."""
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
        raw = b"".join(iter(lambda: _read(stream.fileno()), b""))
    _, waited = os.waitpid(pid, 0)
    return Seen(raw.decode(), os.waitstatus_to_exitcode(waited))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError as error:
        if error.errno == errno.EIO:  # how Linux says that the other side has left
            return b""
        raise
