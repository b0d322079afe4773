"""What a writer notes of its calls, so that it survives the writer's own death.

One line of JSON per event, handed to the kernel in one piece before the call is made and after
it has ended. A process that is killed loses nothing that it has written to a file.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec


class Began(msgspec.Struct, frozen=True, tag="began", omit_defaults=True):
    """A call was begun: messages ``first`` to ``first + count - 1``, or tokens.

    ``call`` numbers the calls of one life; ``at`` is Unix seconds; ``key`` marks a message that
    has one.
    """

    call: int
    at: float
    session: str
    first: int = 0
    count: int = 0
    tokens: int = 0
    key: str | None = None


class Answered(msgspec.Struct, frozen=True, tag="answered", omit_defaults=True):
    """A call was answered: stored under these ids, after so many seconds."""

    call: int
    seconds: float
    ids: list[int] = []


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """A call ended with an error. ``certain``: nothing of it was stored, the library says."""

    call: int
    seconds: float
    code: str
    message: str
    certain: bool


class Wrong(msgspec.Struct, frozen=True, tag="wrong"):
    """The writer itself saw what must not be."""

    what: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The writer left as it was asked to, with every call answered."""


Event = Began | Answered | Refused | Wrong | Ended

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


class Journal:
    """A file that events are added to, from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, *events: Event) -> None:
        """Add events."""
        os.write(self._file, b"".join(_encode(event) + b"\n" for event in events))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@dataclass(slots=True)
class Life:
    """Everything that one process noted."""

    client: int
    number: int
    began: dict[int, Began] = field(default_factory=dict)
    answered: dict[int, Answered] = field(default_factory=dict)
    refused: dict[int, Refused] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    ended: bool = False

    def take(self, event: Event) -> None:
        """Add an event."""
        if isinstance(event, Began):
            self.began[event.call] = event
        elif isinstance(event, Answered):
            self.answered[event.call] = event
        elif isinstance(event, Refused):
            self.refused[event.call] = event
        elif isinstance(event, Wrong):
            self.wrong.append(event.what)
        else:
            self.ended = True

    @property
    def open(self) -> Iterator[Began]:
        """Calls without an end: the process died before it learned."""
        for call, began in self.began.items():
            if call not in self.answered and call not in self.refused:
                yield began


def journal_path(folder: Path, client: int, life: int) -> Path:
    """Where one life of a client notes its calls."""
    return folder / f"client-{client}-{life}.jsonl"


def noted(folder: Path) -> dict[str, int]:
    """How long each journal is by now, by its name."""
    return {path.name: path.stat().st_size for path in folder.glob("client-*.jsonl")}


def read_life(folder: Path, client: int, life: int, known: Mapping[str, int] | None = None) -> Life:
    """What one life of a client noted; a line that its death cut short is left out.

    ``known``: answers count only as far as the journals were that long.
    """
    found = Life(client, life)
    path = journal_path(folder, client, life)
    if not path.exists():
        return found
    place, end = 0, sys.maxsize if known is None else known.get(path.name, 0)
    for line in path.read_bytes().splitlines(keepends=True):
        place += len(line)
        if line.endswith(b"\n"):
            event = _decode(line)
            if place <= end or not isinstance(event, Answered):
                found.take(event)
    return found


def read_lives(
    folder: Path, lives: Sequence[int], known: Mapping[str, int] | None = None
) -> list[Life]:
    """All lives of all clients; ``lives`` says how many each client had."""
    return [
        read_life(folder, client, number, known)
        for client, count in enumerate(lives)
        for number in range(count)
    ]
