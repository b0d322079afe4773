"""A program that talks to a daemon through pynvim alone; nothing of sessiond is imported.

Reads a pickled list of ``(kind, method, params)`` from standard input, kind ``request`` or
``notify``, and writes a pickled list of ``("result", value)`` and ``("error", text)``.
"""

import os
import pickle
import sys
from typing import Any

from pynvim.msgpack_rpc import socket_session


def main(path: str) -> None:
    """Carry out every call in one session."""
    session = socket_session(path)
    outcomes: list[tuple[str, Any]] = []
    for kind, method, params in pickle.load(sys.stdin.buffer):
        if kind == "notify":
            session.request(method, *params, async_=True)
            continue
        try:
            outcomes.append(("result", session.request(method, *params)))
        except Exception as error:  # noqa: BLE001 (pynvim raises Exception itself)
            outcomes.append(("error", str(error)))
    pickle.dump(outcomes, sys.stdout.buffer)
    sys.stdout.flush()
    os._exit(0)  # pynvim leaves its transport to the garbage collector


if __name__ == "__main__":
    main(sys.argv[1])
