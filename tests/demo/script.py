"""What the demo's conversations say: real dialogues in the pattern of an agent's gateway."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support import corpus

SOURCES = ("telegram", "discord", "slack", "whatsapp", "cli")
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One session to write: everything a gateway knows of it, and its messages in order."""

    session_id: str
    source: str
    user_id: str
    title: str
    messages: list[Message]


def conversations() -> Iterator[Conversation]:
    """Every dialogue of the corpus, then the long texts; the same ones at every call."""
    for number, dialogue in enumerate(corpus.dialogues()):
        yield Conversation(
            session_id=f"{dialogue.language}-{dialogue.category}-{dialogue.index:04}",
            source=SOURCES[number % len(SOURCES)],
            user_id=f"user{number % 97}",
            title=f"{dialogue.language} {dialogue.category} {dialogue.index}",
            messages=list(_turns(number, dialogue.turns)),
        )
    for number, long_text in enumerate(corpus.long_texts()):
        question = {"role": "user", "content": f"Please read {long_text.name} to me."}
        yield Conversation(
            session_id=f"long-{number:04}",
            source="cli",
            user_id="reader",
            title=f"reading {long_text.name} {number}",
            messages=[question, *_with_tool("read_file", number, long_text.text)],
        )


def _turns(number: int, turns: list[str]) -> Iterator[Message]:
    for place, turn in enumerate(turns):
        if place % 2 == 0:
            yield {"role": "user", "content": turn}
        elif (number + place) % 5 == 0:
            yield from _with_tool("look_up", number * 100 + place, turn)
        elif (number + place) % 3 == 0:
            yield {
                "role": "assistant",
                "content": turn,
                "reasoning": f"The user said: {turns[place - 1]}",
                "finish_reason": "stop",
            }
        else:
            yield {"role": "assistant", "content": turn, "finish_reason": "stop"}


def _with_tool(tool: str, number: int, answer: str) -> Iterator[Message]:
    call = {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": tool, "arguments": f'{{"number": {number}}}'},
    }
    yield {"role": "assistant", "tool_calls": [call], "finish_reason": "tool_calls"}
    yield {"role": "tool", "tool_name": tool, "tool_call_id": call["id"], "content": answer}
    yield {"role": "assistant", "content": answer[:2000], "finish_reason": "stop"}
