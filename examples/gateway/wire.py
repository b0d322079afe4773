"""What a platform and a gateway say to each other: one JSON object per line."""

import json
from asyncio import StreamReader, StreamWriter
from dataclasses import asdict, dataclass
from typing import Any

from sessiond_client.gateway import SessionSource


@dataclass(frozen=True, slots=True)
class Message:
    """Something a person wrote. ``id`` is the platform's own, ``at`` are Unix seconds."""

    id: str
    at: float
    text: str
    source: SessionSource


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent answered to a message, and in which session."""

    message_id: str
    session_id: str
    text: str


def send(writer: StreamWriter, what: Message | Answer) -> None:
    """Write one line."""
    values = asdict(what)
    if isinstance(what, Message):
        values["source"] = what.source.to_dict()
    writer.write(json.dumps(values).encode() + b"\n")


async def receive(reader: StreamReader) -> dict[str, Any] | None:
    """The next line's values; None when the other side has left."""
    line = await reader.readline()
    # A line without an end is what a process was writing when it was killed.
    return json.loads(line) if line.endswith(b"\n") else None


def message(values: dict[str, Any]) -> Message:
    """The message of a line."""
    return Message(**{**values, "source": SessionSource.from_dict(values["source"])})
