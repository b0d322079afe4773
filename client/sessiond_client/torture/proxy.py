"""A socket in the middle: passes everything on, until it is told to cut inside a message."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PIECE: Final = 65_536


@dataclass(slots=True)
class Cut:
    """A wish to end a connection inside the next piece; ``share`` of it still passes."""

    share: float
    answers: bool
    done: asyncio.Event


@dataclass
class Proxy:
    """Listens at ``path`` and passes on to ``target``, one connection for each it accepts.

    ``cuts`` counts the connections that were ended inside a message.
    """

    path: Path
    target: Path
    cuts: int = 0
    _wish: Cut | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._accepted, str(self.path))

    def cut(self, share: float, answers: bool) -> asyncio.Event:
        """End the connection that passes something next, inside it; set when it is done."""
        self._wish = Cut(share, answers, asyncio.Event())
        return self._wish.done

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever interrupts the run cancels this, too; asyncio would print that as an error.
        with contextlib.suppress(asyncio.CancelledError):
            await self._join(reader, writer)
        writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on in both directions until one of them ends."""
        try:
            onward = await asyncio.open_unix_connection(str(self.target))
        except OSError:
            return  # as if there were no daemon: there is none
        ways = [
            asyncio.ensure_future(self._pass(reader, onward[1], answers=False)),
            asyncio.ensure_future(self._pass(onward[0], writer, answers=True)),
        ]
        self._tasks.update(ways)
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._tasks.difference_update(ways)
            onward[1].transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                wish = self._wish
                if wish is not None and wish.answers is answers:
                    self._wish = None
                    self.cuts += 1
                    wish.done.set()
                    writer.write(piece[: max(1, int(len(piece) * wish.share))])
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(writer.drain(), 0.1)
                    return
                writer.write(piece)
                await writer.drain()

    async def close(self) -> None:
        """Listen no more and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
