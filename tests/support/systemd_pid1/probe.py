"""Run as the service is: prints as JSON what it may do, each a word or the error's name."""

import ctypes
import errno
import json
import os
import socket
from collections.abc import Callable
from typing import Final

_NEW_USER: Final = 0x10000000  # from clone(2)


def outcome(attempt: Callable[[], object]) -> str:
    """``done``, or the name of the error."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def write(path: str) -> Callable[[], None]:
    """An attempt to make a file."""

    def attempt() -> None:
        with open(path, "w", encoding="ascii") as file:
            file.write("x")

    return attempt


def internet() -> None:
    """An attempt to reach another machine."""
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def namespace() -> None:
    """An attempt to become root in a world of one's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def main() -> None:
    """Try everything."""
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    print(
        json.dumps(
            {
                "state folder": outcome(write(f"{os.environ['STATE_DIRECTORY']}/probe")),
                "/etc": outcome(write("/etc/probe")),
                "/usr": outcome(write("/usr/probe")),
                "/home": sorted(os.listdir("/home")),
                "other processes": [each for each in os.listdir("/proc") if each == "1"],
                "internet": outcome(internet),
                "namespace": outcome(namespace),
                "priority": outcome(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
                "capabilities": status["CapEff"].strip("0"),
                "new privileges": status["NoNewPrivs"],
                "filter": status["Seccomp"],
                "uid is root's": os.getuid() == 0,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
