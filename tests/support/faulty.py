"""The daemon with faults built in: ``python -m tests.support.faulty FAULTS serve …``."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import msgspec

from sessiond import app, cli
from sessiond.background import Background
from sessiond.sqlite import access, keeper, opening, store, transaction
from sessiond.sqlite.ask import rows
from sessiond.sqlite.backup import Copy
from sessiond.sqlite.batch import Batch
from sessiond.sqlite.handlers import HANDLERS
from sessiond.sqlite.handlers.messages import append_all
from sessiond.sqlite.jobs import backup, check, copying, vacuum
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests.message import MessageAppend
from tests.support import power
from tests.support.faults import CHECKPOINT, UNSYNCED_COMMIT, Faults


class AtStep:
    """Does something when the daemon comes to a step for the wanted time."""

    def __init__(self, step: str, times: int, act: Callable[[], object]) -> None:
        self._step = step
        self._left = times
        self._act = act

    def __call__(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                self._act()


def build_in(faults: Faults) -> None:
    """Change the daemon that is about to be started."""
    if faults.needs_disk:
        durable = Path(faults.durable) if faults.durable else None
        disk = power.Disk(
            durable,
            faults.die_after,
            faults.fail_sync,
            faults.fail_write,
            die_at_sync=faults.times if faults.crash == UNSYNCED_COMMIT else None,
            at_checkpoint=faults.times if CHECKPOINT in (faults.crash, faults.stop_at) else None,
            act=power.die if faults.crash else _stop,
        )
        globals()["_vfs"] = power.VFS(disk)  # lives as long as the process
        _when_ready(disk.arm)
    at_step = None
    if faults.crash is not None:
        at_step = AtStep(faults.crash, faults.times, power.die)
    elif faults.stop_at is not None:
        at_step = AtStep(faults.stop_at, faults.times, _stop)
    if at_step is not None:
        _replace(cli, "run", functools.partial(cli.run, crash_point=at_step))
    if faults.look_seconds is not None:
        _replace(app, "LOOK_SECONDS", faults.look_seconds)
    if faults.rebuild_at_once is not None:
        make = functools.partialmethod(store.Store.__init__, rebuild_at_once=faults.rebuild_at_once)
        _replace(store.Store, "__init__", make)
    if faults.skip_start_commit:
        _replace(opening, "start_commit", _look_only)
    if faults.skip_start_checkpoint:
        _replace(keeper.Keeper, "_empty_log", lambda *_: None)
    if faults.no_care:
        _replace(store.Store, "care", lambda _store, _idle=False, **_: False)
    if faults.answer_early:
        _answer_early()
    if faults.slow_copies:
        _replace(copying, "SLICE_SECONDS", 0.0)
        _replace(copying, "PAGES", 1)
    if faults.blind:
        for each in (backup, check, vacuum):
            _replace(each, "check_room", lambda *_: None)
    if faults.trip is not None:
        _trip_over(faults.trip)
    if faults.audit is not None:
        _audit(faults.audit)


def _replace(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _when_ready(act: Callable[[], None]) -> None:
    """Do something as soon as clients are served."""
    ready = Background.ready

    def ready_and_act(self: Background) -> None:
        act()
        ready(self)

    _replace(Background, "ready", ready_and_act)


def _look_only(connection: apsw.Connection, known_commits: int | None = None) -> opening.Start:
    """What the start commit finds, without a commit."""
    generation, commits, starts = rows(
        connection, "SELECT generation, commits, starts FROM sessiond_meta"
    )[0]
    return opening.Start(generation, commits, starts, False)


def _answer_early() -> None:
    """Commit only when the next batch begins, or nobody has anything to do."""
    begin, commit = access.WriteAccess.begin, access.WriteAccess.commit
    step = Copy.step
    late: list[apsw.Connection] = []

    def commit_now(connection: apsw.Connection) -> None:
        if connection.in_transaction:
            connection.execute("COMMIT")

    def begin_late(self: access.WriteAccess) -> None:
        late[:] = [self.connection]
        commit_now(self.connection)
        begin(self)

    def step_committed(self: Copy, pages: int) -> bool:
        commit_now(*late)  # no copy could be made of a transaction
        return step(self, pages)

    def commit_late(self: access.WriteAccess) -> None:
        connection = self.connection
        if self.meta.row.commits % 2:
            commit(self)
            return
        self.meta.row.index_state = self.health.text
        self.meta.write()
        assert connection.in_transaction
        self.meta.absorb()

    _replace(access.WriteAccess, "begin", begin_late)
    _replace(access.WriteAccess, "commit", commit_late)
    _replace(Copy, "step", step_committed)


def _trip_over(content: str) -> None:
    """Let one message fail after it was stored."""
    append, together = HANDLERS[MessageAppend], append_all

    def tripping(batch: Batch, request: MessageAppend) -> Any:
        result = append(batch, request)
        if request.message.content == content:
            raise Failure(Code.INTEGRITY, "tripped")
        return result

    def untripped(batch: Batch, appends: list[MessageAppend]) -> int | None:
        trips = any(append.message.content == content for append in appends)
        return None if trips else together(batch, appends)

    HANDLERS[MessageAppend] = tripping
    _replace(transaction, "append_all", untripped)


def _audit(path: str) -> None:
    """Note every file that Python code opens; SQLite's own opening is not seen here."""
    noted = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            os.write(noted, os.fsencode(arguments[0]) + b"\n")

    sys.addaudithook(hook)


if __name__ == "__main__":
    build_in(msgspec.json.decode(sys.argv.pop(1), type=Faults))
    cli.main(prog_name="sessiond")
