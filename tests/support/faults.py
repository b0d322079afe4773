"""Daemons that fail where a test wants it: what can be wished for, and the daemon as a fixture."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.support.daemon import PATIENCE, Daemon

# Steps that only the files below SQLite see.
UNSYNCED_COMMIT = "unsynced commit"
CHECKPOINT = "checkpoint"
REPOSITORY = Path(__file__).parents[2]


class Faults(msgspec.Struct, frozen=True, omit_defaults=True):
    """What shall go wrong in one life of a daemon. Nothing, by default.

    ``crash``: the step at which it is killed, when it comes there for the ``times``-th time;
    "unsynced commit" is the moment between a commit's write to the log and its sync, and
    "checkpoint" a write to the database itself, both counted from when it serves.
    ``stop_at``: the same for a step at which it gets SIGTERM.
    ``durable``: a folder that always holds what a power cut would leave of the files.
    ``die_after``: so many operations on files after its launch it is killed, inside a write.
    ``fail_sync``: which sync of the log fails, counted from when it serves; ``fail_write``: the
    same for writes to it.
    ``skip_start_commit``, ``skip_start_checkpoint``, ``answer_early``: a broken build.
    ``no_care``: nothing is done between batches, so that no checkpoint comes to the rescue.
    ``trip``: a message with this content fails after it was stored.
    ``look_seconds``: how often it looks after its connections and whether it is idle.
    ``rebuild_at_once``: up to how many messages the index is made anew in one transaction.
    ``slow_copies``: jobs copy the database page by page. ``blind``: they do not look first
    whether there is room.
    ``audit``: a file that takes a line for every file that Python code opens.
    """

    crash: str | None = None
    stop_at: str | None = None
    times: int = 1
    durable: str | None = None
    die_after: int | None = None
    fail_sync: int | None = None
    fail_write: int | None = None
    skip_start_commit: bool = False
    skip_start_checkpoint: bool = False
    answer_early: bool = False
    no_care: bool = False
    trip: str | None = None
    look_seconds: float | None = None
    rebuild_at_once: int | None = None
    slow_copies: bool = False
    blind: bool = False
    audit: str | None = None

    @property
    def needs_disk(self) -> bool:
        """Whether the files must lie on a disk of the test's own making."""
        wishes = (self.durable, self.die_after, self.fail_sync, self.fail_write)
        below = {UNSYNCED_COMMIT, CHECKPOINT} & {self.crash, self.stop_at}
        return bool(below) or any(each is not None for each in wishes)


SOUND = Faults()


def program(faults: Faults) -> tuple[str, ...]:
    """What Python runs for a daemon with these faults."""
    return ("-m", "tests.support.faulty", msgspec.json.encode(faults).decode())


def command(faults: Faults) -> list[str]:
    """The same as a whole command, to be run where :func:`path_to_tests` holds."""
    return [sys.executable, *program(faults)]


def path_to_tests() -> dict[str, str]:
    """The environment in which these daemons can be started from anywhere."""
    known = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), known)))}


@dataclass
class FaultyDaemon(Daemon):
    """A daemon whose next life may have faults; ``revive`` starts a sound one when it dies."""

    environment: dict[str, str] = field(default_factory=path_to_tests)
    statuses: list[int] = field(default_factory=list)

    def start_with(self, faults: Faults) -> None:
        """Start it with faults and wait until it is ready."""
        self.program = program(faults)
        self.start()

    def launch_with(self, faults: Faults) -> None:
        """Start it with faults that may end it before it is ready."""
        self.program = program(faults)
        self.launch()

    def launch(self) -> None:
        """Start it and wait for nothing."""
        assert self.process is None, "it runs already"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "serve", "--database", str(self.database),
                 "--socket", str(self.socket), *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process is not None and self.process.poll() is None

    def freeze(self) -> None:
        """Stop it in its tracks; :meth:`thaw` lets it go on."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def await_end(self) -> int:
        """Wait until it has left by itself; its exit status."""
        process = self._let_go()
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the daemon did not leave:\n{self.log}") from None
        self.statuses.append(status)
        return status

    def revive(
        self, faults: Faults = SOUND, between: Callable[[], None] = lambda: None
    ) -> threading.Thread:
        """On a thread: wait for its end, do something, start it again. To be joined."""

        def wait_and_start() -> None:
            self.await_end()
            between()
            self.start_with(faults)

        thread = threading.Thread(target=wait_and_start, name="reviver", daemon=True)
        thread.start()
        return thread
