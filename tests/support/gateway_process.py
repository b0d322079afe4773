"""A gateway as a process: takes orders as lines of JSON, and says what came of them.

``ask {now, chats}``: a message in each chat, at that time; says ``[[chat, session, flagged]]``.
``hurry {seed, chats}``: all kinds of calls in a row until it is killed; says each one's number.
"""

import asyncio
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessiond_client.gateway import Platform, SessionSource, SessionStore
from tests.support.clients import OnLoop
from tests.support.daemon import Daemon
from tests.support.gateways import HOUR, store


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def source(chat: str) -> SessionSource:
    """A chat that all gateways of a test know."""
    return SessionSource(Platform.TELEGRAM, chat, chat_name=f"chat {chat}", user_id=f"user {chat}")


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


def ask(gateway: SessionStore, clock: Clock, now: float, chats: list[str]) -> None:
    """A message in each chat."""
    clock.now = now
    entries = [(chat, gateway.get_or_create_session(source(chat))) for chat in chats]
    say([[chat, entry.session_id, entry.was_auto_reset] for chat, entry in entries])


def hurry(gateway: SessionStore, clock: Clock, seed: int, chats: list[str]) -> None:
    """Everything a gateway does, in any order, with resets every now and then."""
    choose = random.Random(seed)
    clock.now = 1_770_000_000.0
    number = 0
    while True:
        clock.now += choose.choice([1.0, HOUR / 2, 2 * HOUR])
        entry = gateway.get_or_create_session(source(choose.choice(chats)), choose.random() < 0.2)
        gateway.append_to_transcript(entry.session_id, {"role": "user", "content": str(number)})
        if choose.random() < 0.2:
            gateway.reset_session(entry.session_key)
        elif choose.random() < 0.5:
            gateway.update_session(entry.session_key, input_tokens=number)
        number += 1
        say(number)


def main(kind: str, database: str, socket: str, folder: str) -> None:
    """Carry out orders until there are none."""
    daemon = Daemon(Path(database).parent)
    assert (str(daemon.database), str(daemon.socket)) == (database, socket)
    clock = Clock()
    orders: dict[str, Callable[..., None]] = {"ask": ask, "hurry": hurry}
    with store(kind, daemon, Path(folder), clock) as gateway:
        while line := _line(gateway):
            what, arguments = json.loads(line)
            orders[what](gateway, clock, **arguments)


def _line(gateway: SessionStore) -> str:
    """The next order; the loop of an asynchronous gateway runs on meanwhile."""
    if isinstance(gateway, OnLoop):
        line: str = gateway._runner.run(asyncio.to_thread(sys.stdin.readline))
        return line
    return sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
