"""A chat platform as gateways see it: it hands out messages, again and again until one is answered.

Any number of gateways may be connected; each message goes to one of them. If that one leaves
without an answer, the message goes to another, as real platforms deliver again what was never
confirmed.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from examples.gateway import wire
from examples.gateway.wire import Answer, Message

# How many messages one gateway works on at once.
WINDOW: Final = 4


class Platform:
    """One platform. ``answered`` is called with the gateway's name after each answer."""

    def __init__(self, answered: Callable[[str], None]) -> None:
        self._answered = answered
        self._waiting: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: dict[str, asyncio.Future[Answer]] = {}
        self._server: asyncio.Server | None = None
        self._at_work: dict[str, dict[str, Message]] = {}
        self._arrivals: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._connections: dict[asyncio.Task[None], StreamWriter] = {}
        self.delivered_again = 0

    async def open(self, path: Path) -> None:
        """Listen for gateways."""
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def close(self) -> None:
        """Send the gateways away."""
        assert self._server is not None
        self._server.close()
        for writer in self._connections.values():
            writer.close()
        if self._connections:
            await asyncio.wait(list(self._connections))

    async def say(self, said: Message) -> Answer:
        """A person writes something and waits for the answer."""
        self._answers[said.id] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(said)
        return await self._answers[said.id]

    async def wait_for(self, gateway: str) -> None:
        """Return when a gateway is connected."""
        await self._arrivals[gateway].wait()

    def working_on(self, gateway: str) -> int:
        """How many messages a gateway has not answered yet."""
        return len(self._at_work.get(gateway, {}))

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            await self._talk(reader, writer)
        finally:
            del self._connections[task]
            writer.close()

    async def _talk(self, reader: StreamReader, writer: StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        given: dict[str, Message] = {}
        self._at_work[name] = given
        self._arrivals[name].set()
        room = asyncio.Semaphore(WINDOW)
        handing_out = asyncio.create_task(self._hand_out(writer, given, room))
        try:
            while (values := await wire.receive(reader)) is not None:
                answer = Answer(**values)
                given.pop(answer.message_id, None)
                room.release()
                future = self._answers[answer.message_id]
                if not future.done():
                    future.set_result(answer)
                self._answered(name)
        except ConnectionError:
            pass
        finally:
            self._arrivals[name].clear()
            handing_out.cancel()
            await asyncio.wait([handing_out])
            self.delivered_again += len(given)
            for said in given.values():
                self._waiting.put_nowait(said)
            given.clear()

    async def _hand_out(
        self, writer: StreamWriter, given: dict[str, Message], room: asyncio.Semaphore
    ) -> None:
        while True:
            await room.acquire()
            said = await self._waiting.get()
            given[said.id] = said
            wire.send(writer, said)
