"""The whole scene: a daemon, two platforms, three gateways, people, and somebody who kills."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from examples.gateway.platform import Platform
from examples.gateway.script import CONFIG, DAYS, Person, Room, moment, people
from examples.gateway.wire import Message

GATEWAYS: Final = ("north", "south", "west")
# After so many answers of a day its victim is killed, as soon as it has something to do.
ANSWERS_BEFORE_DEATH: Final = 5
PATIENCE: Final = 60.0


@dataclass
class Outcome:
    """What came of the script. ``wrong`` says everything that should not have happened."""

    rooms: list[Room] = field(default_factory=list)
    questions: int = 0
    wrong: list[str] = field(default_factory=list)
    killed: int = 0
    delivered_again: int = 0


class Scene:
    """Everything that runs. Use it as an asynchronous context."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.folder = folder
        self.outcome = Outcome()
        self._choose = random.Random(seed)
        self._platforms = {
            name: Platform(self._answered) for name in CONFIG.get_connected_platforms()
        }
        self._gateways: dict[str, asyncio.subprocess.Process] = {}
        self._victim = ""
        self._victims_answers = 0
        self._told_to_kill = asyncio.Event()

    async def play(self) -> Outcome:
        """The script from its first day to its last."""
        everybody = people(self._choose)
        self.outcome.rooms = [room for person in everybody for room in person.rooms]
        async with asyncio.timeout(PATIENCE):
            for day in range(DAYS):
                await self._day(day, everybody)
        self.outcome.delivered_again = sum(
            each.delivered_again for each in self._platforms.values()
        )
        return self.outcome

    async def _day(self, day: int, everybody: list[Person]) -> None:
        self._victim, self._victims_answers = GATEWAYS[day % len(GATEWAYS)], 0
        self._told_to_kill.clear()
        async with asyncio.TaskGroup() as killing:
            killing.create_task(self._kill_when_told())
            async with asyncio.TaskGroup() as talking:
                for number, person in enumerate(everybody):
                    talking.create_task(self._talk(person, number, day))
            self._told_to_kill.set()

    async def _talk(self, person: Person, number: int, day: int) -> None:
        """One person's day."""
        turns = person.turns(day, random.Random(f"{number} {day}"))
        for turn, (room, question, expected) in enumerate(turns):
            message = Message(f"{number}.{day}.{turn}", moment(day, turn), question, room.source)
            answer = await self._platforms[room.source.platform].say(message)
            self.outcome.questions += 1
            if answer.text != expected:
                self.outcome.wrong.append(f"{question!r}: {answer.text!r}, not {expected!r}")
            if answer.session_id not in room.sessions:
                room.sessions.append(answer.session_id)

    # --- gateways, and their end ------------------------------------------------------------

    def _answered(self, gateway: str) -> None:
        if gateway == self._victim:
            self._victims_answers += 1
            busy = sum(each.working_on(gateway) for each in self._platforms.values())
            if self._victims_answers >= ANSWERS_BEFORE_DEATH and busy:
                self._told_to_kill.set()

    async def _kill_when_told(self) -> None:
        """Kill the day's victim in the middle of its work, and start it again."""
        await self._told_to_kill.wait()
        gateway = self._gateways[self._victim]
        gateway.kill()
        await gateway.wait()
        self.outcome.killed += 1
        await self._start(self._victim)

    async def _start(self, name: str) -> None:
        self._gateways[name] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "examples.gateway.gateway", name, str(self.folder)
        )
        for platform in self._platforms.values():
            await platform.wait_for(name)

    async def _leave(self) -> None:
        """The gateways leave when their platforms send them away."""
        for platform in self._platforms.values():
            await platform.close()
        for gateway, process in self._gateways.items():
            try:
                status = await asyncio.wait_for(process.wait(), PATIENCE)
            except TimeoutError:
                process.kill()
                status = await process.wait()
            if status != 0:
                self.outcome.wrong.append(f"gateway {gateway} left with status {status}")

    async def __aenter__(self) -> "Scene":
        for name, platform in self._platforms.items():
            await platform.open(self.folder / name)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*map(self._start, GATEWAYS))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()


@asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[None]:
    """A daemon of the scene's own; clients wait for it themselves."""
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sessiond", "serve"),
            *("--database", str(folder / "state.db"), "--socket", str(folder / "sock")),
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
