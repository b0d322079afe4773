"""Programs of a user, run inside the booted system: several writers that want no error.

``client.py THREADS``: each thread appends to a session of its own until a line comes in. Prints
``writing`` once all have been answered, ``hurt`` at the first error, and in the end a line of
JSON: how many appends were answered, what failed, the slowest append's seconds, and what the
daemon holds that should not be, or lacks.
"""

import json
import sys
import threading
import time
from typing import Any

from sessiond_client import SessionDB


class Writer(threading.Thread):
    """Appends numbered messages, one at a time."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.stop = stop
        self.first = threading.Event()
        self.answered = 0
        self.slowest = 0.0
        self.error: str | None = None

    def run(self) -> None:
        try:
            with SessionDB(autostart=False, timeout=20) as db:
                db.ensure_session(self.name, source="test")
                while not self.stop.is_set():
                    started = time.monotonic()
                    db.append_message(self.name, "user", f"{self.name} {self.answered}")
                    self.slowest = max(self.slowest, time.monotonic() - started)
                    self.answered += 1
                    self.first.set()
        except Exception as error:  # noqa: BLE001 (whatever it is, the test shall see it)
            self.error = f"{type(error).__name__}: {error}"
            print("hurt", flush=True)
        finally:
            self.first.set()


def main(threads: int) -> None:
    """Write, wait for a line, look at what is there."""
    stop = threading.Event()
    prefix = f"load-{time.time_ns()}"
    writers = [Writer(f"{prefix}-{number}", stop) for number in range(threads)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.first.wait()
    print("writing", flush=True)
    sys.stdin.readline()
    stop.set()
    for writer in writers:
        writer.join()
    print(json.dumps(found(writers)), flush=True)


def found(writers: list[Writer]) -> dict[str, Any]:
    """What came of it."""
    wrong = []
    with SessionDB(autostart=False) as db:
        for writer in writers:
            held = [message["content"] for message in db.get_messages(writer.name)]
            if held != [f"{writer.name} {number}" for number in range(writer.answered)]:
                wrong.append(f"{writer.name}: {len(held)} held, {writer.answered} answered")
    return {
        "answered": sum(writer.answered for writer in writers),
        "errors": [writer.error for writer in writers if writer.error],
        "slowest": max(writer.slowest for writer in writers),
        "wrong": wrong,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
