"""Who says what, where and when, and what the store should hold in the end."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sessiond_client.gateway import (
    GatewayConfig,
    HomeChannel,
    Platform,
    PlatformConfig,
    SessionResetPolicy,
    SessionSource,
)
from tests.support import corpus

CONFIG: Final = GatewayConfig(
    platforms={
        Platform.TELEGRAM: PlatformConfig(
            enabled=True, home_channel=HomeChannel(Platform.TELEGRAM, "1000", "Home")
        ),
        Platform.SLACK: PlatformConfig(enabled=True),
    },
    default_reset_policy=SessionResetPolicy("daily", at_hour=4),
    reset_by_platform={Platform.TELEGRAM: SessionResetPolicy("idle", idle_minutes=12 * 60)},
    reset_by_type={"channel": SessionResetPolicy("none")},
)

DAYS: Final = 3
PEOPLE: Final = 5
MORNING: Final = datetime(2026, 5, 4, 10, 0)
SHORTEST, LONGEST = 4, 14


@dataclass(slots=True)
class Room:
    """A place where one person talks to the agent, with what is said there on each day.

    ``sessions`` are those that answers came from, in their order.
    """

    source: SessionSource
    days: list[list[str]]
    sessions: list[str] = field(default_factory=list)

    @property
    def transcripts(self) -> list[list[str]]:
        """What was said in each session that its policy makes of these days."""
        if self.source.chat_type == "channel":
            return [[text for day in self.days for text in day]]
        return self.days


@dataclass(slots=True)
class Person:
    """Somebody who goes from room to room and waits for each answer."""

    rooms: list[Room]

    def turns(self, day: int, choose: random.Random) -> Iterator[tuple[Room, str, str]]:
        """What is asked and should be answered on a day, the rooms mixed."""
        open_rooms = [(room, iter(_pairs(room.days[day]))) for room in self.rooms]
        while open_rooms:
            place = choose.randrange(len(open_rooms))
            room, pairs = open_rooms[place]
            pair = next(pairs, None)
            if pair is None:
                del open_rooms[place]
            else:
                yield (room, *pair)


def _pairs(turns: list[str]) -> Iterator[tuple[str, str]]:
    return zip(turns[::2], turns[1::2], strict=True)


def moment(day: int, minutes: float) -> float:
    """Unix seconds of a moment of the script."""
    return (MORNING + timedelta(days=day, minutes=minutes)).timestamp()


def dialogues() -> list[list[str]]:
    """Dialogues that begin differently and end with an answer, of every length and language."""
    found: dict[str, list[str]] = {}
    for dialogue in corpus.dialogues():
        turns = dialogue.turns[: len(dialogue.turns) // 2 * 2]
        if SHORTEST <= len(turns) <= LONGEST:
            found.setdefault(turns[0], turns)
    return list(found.values())


def people(choose: random.Random) -> list[Person]:
    """Everybody, with a script for each of their rooms."""
    spoken = iter(choose.sample(known := dialogues(), len(known)))
    made = []
    for number in range(PEOPLE):
        for sources in (_on_telegram(number), _on_slack(number)):
            rooms = [Room(source, [next(spoken) for _ in range(DAYS)]) for source in sources]
            made.append(Person(rooms))
    return made


def _on_telegram(number: int) -> list[SessionSource]:
    """A direct chat, and two threads of a group."""
    who = {"user_id": f"77000{number}", "user_name": f"Person {number}"}
    direct = SessionSource(Platform.TELEGRAM, f"77000{number}", f"Person {number}", **who)
    threads = [
        SessionSource(Platform.TELEGRAM, "-1001", "Club", "group", thread_id=thread, **who)
        for thread in ("5", "6")
    ]
    return [direct, *threads]


def _on_slack(number: int) -> list[SessionSource]:
    """A direct chat, a thread, and a channel whose sessions never end."""
    who = {"user_id": f"U{number}", "user_name": f"Person {number}"}
    return [
        SessionSource(Platform.SLACK, f"D{number}", **who),
        SessionSource(Platform.SLACK, "C1", "general", "thread", thread_id="17.5", **who),
        SessionSource(Platform.SLACK, "C2", "projects", "channel", **who),
    ]
