"""Many client processes at mixed work, a bounded amount of it: a program for ``test_mixed``.

``python -m tests.load.mixed DATABASE SOCKET FOLDER PROCESSES ROUNDS`` forks the processes. Each
writes numbered messages and leaves in ``FOLDER/<process>.json`` what it was told of them. Exit
status 1 if one of them met an error.
"""

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from sessiond_client import AsyncSessionDB, SessionDB
from tests.support.corpus import paragraphs

SHARED: Final = "shared"
TOKENS_PER_COUNT: Final = 3
HANDED_OVER: Final = 5
LIST: Final = 4


@dataclass
class Noted:
    """What one process was told: ids by number in its own session and in the shared one."""

    own: list[int] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    counted: int = 0
    draft: int = 0


def own_session(process: int) -> str:
    """The session that one process writes to, and nobody else."""
    return f"own-{process}"


def draft_session(process: int) -> str:
    """The session that one process replaces again and again."""
    return f"draft-{process}"


def text_of(process: int, number: int, where: str) -> str:
    """How a message begins; a paragraph follows."""
    return f"process {process} number {number} {where}:"


class Texts:
    """One process's messages, numbered in the order in which they are handed out."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._paragraphs = paragraphs(process, 100)
        self._own = 0
        self._shared = 0

    def own(self) -> dict[str, Any]:
        """The next message of the process's own session."""
        self._own += 1
        return self._message(self._own - 1, "own")

    def shared(self) -> dict[str, Any]:
        """Its next message in the session of all."""
        self._shared += 1
        return self._message(self._shared - 1, "shared")

    def draft(self, count: int) -> list[dict[str, Any]]:
        """So many messages of a draft."""
        return [self._message(number, "draft") for number in range(count)]

    def _message(self, number: int, where: str) -> dict[str, Any]:
        paragraph = self._paragraphs[number % len(self._paragraphs)]
        return {
            "role": "user" if number % 2 == 0 else "assistant",
            "content": f"{text_of(self._process, number, where)} {paragraph}",
        }


def blocking(place: Mapping[str, Any], process: int, rounds: int) -> Noted:
    """The work of a process that waits for its answers, most of the time."""
    noted, texts = Noted(), Texts(process)
    own, draft = own_session(process), draft_session(process)
    with SessionDB(**place) as db:
        db.create_session(own, "load")
        db.create_session(draft, "load")
        for number in range(rounds):
            noted.own.append(db.append_message(own, **texts.own()))
            futures = [db.append_message_nowait(own, **texts.own()) for _ in range(HANDED_OVER)]
            ids = db.append_messages(own, [texts.own() for _ in range(LIST)])
            noted.own += [*(future.result() for future in futures), *ids]
            with db.batch() as batch:
                batch.append_message(own, **texts.own())
                batch.append_message(SHARED, **texts.shared())
                batch.update_token_counts(own, input_tokens=TOKENS_PER_COUNT)
            noted.own.append(batch.results[0])
            noted.shared += [batch.results[1], db.append_message(SHARED, **texts.shared())]
            db.update_token_counts(own, input_tokens=TOKENS_PER_COUNT, wait=False)
            noted.counted += 2
            noted.draft = db.replace_messages(draft, texts.draft(number + 1))
            _check(len(noted.own), len(db.get_messages(own)))
            _check(True, bool(db.search_messages("process", limit=2)))
            db.list_sessions_rich(limit=5)
    return noted


async def asynchronous(place: Mapping[str, Any], process: int, rounds: int) -> Noted:
    """The same work with many calls on their way at once."""
    noted, texts = Noted(), Texts(process)
    own, draft = own_session(process), draft_session(process)
    async with AsyncSessionDB(**place) as db:
        await asyncio.gather(db.create_session(own, "load"), db.create_session(draft, "load"))
        for number in range(rounds):
            await db.update_token_counts(own, input_tokens=TOKENS_PER_COUNT, wait=False)
            # Tasks begin in the order in which they are made: so do their writes.
            found: list[Any] = await asyncio.gather(
                *(db.append_message(own, **texts.own()) for _ in range(HANDED_OVER + 2)),
                db.append_messages(own, [texts.own() for _ in range(LIST)]),
                db.append_message(SHARED, **texts.shared()),
                db.append_message(SHARED, **texts.shared()),
                db.update_token_counts(own, input_tokens=TOKENS_PER_COUNT),
                db.replace_messages(draft, texts.draft(number + 1)),
                db.search_messages("process", limit=2),
                db.list_sessions_rich(limit=5),
            )
            single = HANDED_OVER + 2
            noted.own += [*found[:single], *found[single]]
            noted.shared += found[single + 1 : single + 3]
            noted.counted += 2
            noted.draft = found[single + 4]
            _check(len(noted.own), len(await db.get_messages(own)))
    return noted


def _check(wanted: object, found: object) -> None:
    if found != wanted:
        raise AssertionError(f"{found!r} was read where {wanted!r} was written")


def main(words: list[str]) -> int:
    """Fork the processes, wait for them; 1 if one failed."""
    database, socket, folder, processes, rounds = words
    place: dict[str, Any] = {
        "db_path": database,
        "socket": socket,
        "autostart": False,
        "timeout": 60.0,
    }
    with SessionDB(**place) as db:
        db.create_session(SHARED, "load")
    paragraphs(0, 1)  # read the texts once, for all children
    children = list(_fork(place, Path(folder), int(processes), int(rounds)))
    return int(any(os.waitpid(child, 0)[1] for child in children))


def _fork(place: Mapping[str, Any], folder: Path, processes: int, rounds: int) -> Iterator[int]:
    for process in range(processes):
        child = os.fork()
        if child:
            yield child
            continue
        status = 1
        try:
            if process % 2:
                noted = asyncio.run(asynchronous(place, process, rounds))
            else:
                noted = blocking(place, process, rounds)
            (folder / f"{process}.json").write_text(json.dumps(asdict(noted)), encoding="utf-8")
            status = 0
        except BaseException:  # noqa: BLE001 (a child must not go on as its parent)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
