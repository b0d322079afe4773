"""Does one client's bulk import starve another's single appends? Run and see.

``python -m tests.load.fairness`` measures single appends alone, then beside a client that
pipelines appends without pause, and prints both. The daemon fills a batch round-robin over its
connections, so that a lone append waits for one batch and not for the importer's backlog.
"""

import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sessiond_client import SessionDB
from tests.support.corpus import paragraphs
from tests.support.daemon import Daemon

SECONDS = 5.0
IN_FLIGHT = 4000


def append_singly(daemon: Daemon, session: str) -> list[float]:
    """Seconds of each append, one at a time, for five seconds."""
    texts = paragraphs(1, 200)
    taken: list[float] = []
    with SessionDB(**daemon.arguments) as db:
        db.create_session(session, "fairness")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            started = time.monotonic()
            db.append_message(session, "user", texts[len(taken) % len(texts)])
            taken.append(time.monotonic() - started)
    return sorted(taken)


def import_in_bulk(database: str, socket: str) -> None:
    """Keep thousands of appends on their way, a little longer than the other measures."""
    texts = paragraphs(2, 200)
    stored = 0
    with SessionDB(database, socket=socket, autostart=False, timeout=60) as db:
        db.create_session("bulk", "fairness")
        print("ready", flush=True)
        waiting = deque(
            db.append_message_nowait("bulk", "user", texts[n % 200]) for n in range(IN_FLIGHT)
        )
        end = time.monotonic() + SECONDS + 1.0
        while time.monotonic() < end:
            waiting.popleft().result()
            stored += 1
            waiting.append(db.append_message_nowait("bulk", "user", texts[stored % 200]))
    print(stored + len(waiting), flush=True)


def main() -> None:
    """Measure alone, then beside the import."""
    table = Table(title="single appends, milliseconds")
    for heading in ("", "appends", "p50", "p99", "max"):
        table.add_column(heading, justify="right" if heading else "left")
    with tempfile.TemporaryDirectory(prefix="sessiond-fairness-") as folder:
        daemon = Daemon(Path(folder))
        daemon.start()
        try:
            for name in ("alone", "beside a bulk import"):
                importer = None
                if name != "alone":
                    importer = subprocess.Popen(
                        [sys.executable, "-m", "tests.load.fairness",
                         str(daemon.database), str(daemon.socket)],
                        stdout=subprocess.PIPE, text=True,
                    )  # fmt: skip
                    assert importer.stdout is not None
                    importer.stdout.readline()
                taken = append_singly(daemon, name)
                quantiles = (taken[int(len(taken) * q)] for q in (0.5, 0.99))
                shown = [f"{1000 * each:.2f}" for each in (*quantiles, taken[-1])]
                table.add_row(name, str(len(taken)), *shown)
                if importer is not None:
                    stored, _ = importer.communicate(timeout=120)
                    table.caption = f"the import stored {int(stored):,} messages meanwhile"
        finally:
            daemon.stop()
    Console().print(table)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        import_in_bulk(*sys.argv[1:])
    else:
        main()
