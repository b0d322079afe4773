"""Backups, checks and their like while everything else is disturbed, each by a process of its own.

``python -m sessiond_client.torture.care ORDERS`` has the daemon do one of them, where the orders
are JSON, and prints what came of it. A backup must hold what was answered before it was asked
for, a check must find nothing, and nothing may fail but for what disturbs the daemon.
"""

import asyncio
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from sessiond_client import SessionDB, SessiondError
from sessiond_client.torture.journal import noted, read_lives
from sessiond_client.torture.plan import Kind
from sessiond_client.torture.verdict import Examination

# The daemon was ended under it, or had no room, or could not write for another reason.
_EXCUSED: Final = frozenset({"shutting_down", "disk_full", "database"})
_NEVER: Final = ("damaged", "is not what was copied")
_MOST_SECONDS: Final = 90.0


class Orders(msgspec.Struct, frozen=True):
    """What is to be done. ``path`` is for a backup; ``now`` looks at the file, not at a copy."""

    database: str
    socket: str
    kind: Kind
    path: str
    now: bool
    timeout: float


class Outcome(msgspec.Struct, frozen=True):
    """A result, or the code and the message of an error."""

    result: dict[str, Any] | None = None
    code: str = ""
    message: str = ""


class Caring:
    """Has it done, one after the other. ``lives`` says how many each client has had by now.

    ``done`` counts by kind what came to its end; what was cut short is not in it.
    """

    def __init__(
        self,
        database: Path,
        socket: Path,
        folder: Path,
        seed: int,
        timeout: float,
        lives: Callable[[], list[int]],
    ) -> None:
        self._orders = Orders(
            str(database), str(socket), Kind.BACKUP, str(folder / "backup.db"), False, timeout
        )
        self._folder = folder
        self._seed = seed
        self._lives = lives
        self._kept = 0
        self.done: Counter[Kind] = Counter()

    async def do(self, kind: Kind, *, now: bool = False, calm: bool = False) -> list[str]:
        """Do one thing; what must not be. ``calm``: nothing disturbs, so it must not fail."""
        known = noted(self._folder)
        orders = msgspec.structs.replace(self._orders, kind=kind, now=now)
        outcome = await self._ordered(orders)
        if outcome.result is None:
            excused = outcome.code in _EXCUSED and not any(
                word in outcome.message for word in _NEVER
            )
            if excused and not calm:
                # Cut short after it had its name it is whole.
                return await self._verified(kind, Path(orders.path), known)
            return [f"{kind}: failed with {outcome.code}: {outcome.message}"]
        self.done[kind] += 1
        if kind is Kind.CHECK and not outcome.result["sound"]:
            return [
                f"{kind}: {each['kind']}: {each['detail']}" for each in outcome.result["findings"]
            ]
        return await self._verified(kind, Path(orders.path), known)

    async def _verified(self, kind: Kind, path: Path, known: dict[str, int]) -> list[str]:
        if kind is not Kind.BACKUP or not path.exists():
            return []
        wrong = await asyncio.to_thread(self._verify, path, known)
        return [f"{kind}: {each}" for each in wrong]

    async def _ordered(self, orders: Orders) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sessiond_client.torture.care",
            msgspec.json.encode(orders).decode(),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            printed, _ = await asyncio.wait_for(process.communicate(), _MOST_SECONDS)
        except TimeoutError:
            return Outcome(code="timeout", message=f"not over after {_MOST_SECONDS:g} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            return Outcome(code="internal", message=f"left with status {process.returncode}")
        return msgspec.json.decode(printed, type=Outcome)

    def _verify(self, path: Path, known: dict[str, int]) -> list[str]:
        """The backup against what was answered before it was asked for; gone afterwards."""
        lives = read_lives(self._folder, self._lives(), known)
        examination = Examination(path, lives, self._seed, room_was_taken=True, of_now=False)
        try:
            wrong = examination().violations
        except sqlite3.DatabaseError as error:
            wrong = [f"cannot be read: {error}"]
        if not wrong:
            os.unlink(path)
        else:
            self._kept += 1
            path.rename(path.with_name(f"backup-{self._kept}.db"))
        return wrong


def work(orders: Orders) -> Outcome:
    """Carry out the orders."""
    with SessionDB(
        orders.database, socket=orders.socket, autostart=False, timeout=orders.timeout
    ) as db:
        calls: dict[Kind, Callable[[], dict[str, Any]]] = {
            Kind.BACKUP: lambda: db.backup(orders.path),
            Kind.CHECK: lambda: db.check(now=orders.now),
            Kind.VACUUM: db.vacuum,
            Kind.REINDEX: db.rebuild_index,
        }
        try:
            return Outcome(result=calls[orders.kind]())
        except SessiondError as error:
            return Outcome(code=str(error.code), message=str(error))


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.json.encode(work(msgspec.json.decode(sys.argv[1], type=Orders)))
    )
