"""The gateway: a process that takes messages from its platforms and lets the agent answer."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from examples.gateway import wire
from examples.gateway.agent import Agent
from examples.gateway.script import CONFIG, dialogues
from examples.gateway.wire import Answer, Message
from sessiond_client import AsyncSessionDB
from sessiond_client.gateway import (
    AsyncSessionStore,
    SessionEntry,
    build_session_context,
    build_session_context_prompt,
)


class Clock:
    """The time of the script: that of the latest message."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def advance(self, at: float) -> None:
        """It does not go back for a message that was delivered late."""
        self._now = max(self._now, at)


class Gateway:
    """Answers messages, any number of them at once."""

    def __init__(self, store: AsyncSessionStore, agent: Agent) -> None:
        self._store = store
        self._agent = agent

    async def answer(self, message: Message) -> Answer:
        """One turn of a conversation. May be repeated: a crash may come after any line."""
        entry = await self._store.get_or_create_session(message.source)
        session = entry.session_id
        await self._append(session, message.id, "user", message.text, message.at)
        history = _up_to_the_question(await self._store.load_transcript(session))
        text = self._agent.answer(self._prompt(entry, message), history)
        await self._append(session, f"{message.id} answered", "assistant", text, message.at)
        await self._store.update_session(
            entry.session_key,
            input_tokens=sum(len(each["content"]) for each in history),
            output_tokens=len(text),
            model="parrot",
        )
        return Answer(message.id, session, text)

    async def _append(self, session: str, key: str, role: str, text: str, at: float) -> None:
        """Under the platform's own id a message that is delivered twice is stored once."""
        await self._store.append_to_transcript(
            session, {"role": role, "content": text, "timestamp": at, "message_key": key}
        )

    def _prompt(self, entry: SessionEntry, message: Message) -> str:
        context = build_session_context(message.source, CONFIG, entry)
        return build_session_context_prompt(context, redact_pii=True)


def _up_to_the_question(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without an answer that a gateway stored and then could not deliver."""
    return history[:-1] if history[-1]["role"] == "assistant" else history


async def work(name: str, socket: Path, gateway: Gateway, clock: Clock) -> None:
    """Take messages from one platform until it sends the gateway away."""
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(f"{name}\n".encode())

    async def turn(message: Message) -> None:
        wire.send(writer, await gateway.answer(message))

    async with asyncio.TaskGroup() as turns:
        while (values := await wire.receive(reader)) is not None:
            message = wire.message(values)
            clock.advance(message.at)
            turns.create_task(turn(message))
    writer.close()


async def main(name: str, folder: Path) -> None:
    """Serve both platforms."""
    clock = Clock()
    async with (
        AsyncSessionDB(folder / "state.db", socket=folder / "sock", autostart=False) as db,
        AsyncSessionStore(folder / "sessions", CONFIG, db=db, clock=clock) as store,
        asyncio.TaskGroup() as platforms,
    ):
        gateway = Gateway(store, Agent(dialogues()))
        for platform in CONFIG.get_connected_platforms():
            platforms.create_task(work(name, folder / platform, gateway, clock))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
