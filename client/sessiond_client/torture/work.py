"""What the writers write: an endless, reproducible stream of uniquely numbered messages."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Deed(StrEnum):
    """The kinds of writes."""

    ONE = "append_message"
    KEYED = "append_message with a key"
    SEVERAL = "append_messages"
    STREAM = "append_message_nowait"
    BATCH = "batch"
    TOKENS = "update_token_counts"
    MERGED = "update_token_counts without waiting"


_WEIGHTS: Final[dict[Deed, int]] = {
    Deed.ONE: 6,
    Deed.KEYED: 2,
    Deed.SEVERAL: 3,
    Deed.STREAM: 3,
    Deed.BATCH: 2,
    Deed.TOKENS: 1,
    Deed.MERGED: 2,
}
_COUNTS: Final[dict[Deed, tuple[int, int]]] = {
    Deed.SEVERAL: (2, 9),
    Deed.STREAM: (5, 120),
    Deed.BATCH: (2, 6),
    Deed.TOKENS: (0, 0),
    Deed.MERGED: (0, 0),
}
_WORDS: Final = (
    "answer", "branch", "the", "commit", "größe", "naïve", "проверка", "данные", "数据库", "会话",
    "メッセージ", "検索", "메시지", "확인", "مرحبا", "🙂", "x" * 40, "a-b_c.d/e", '"quoted"', "",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do. ``first`` and ``count`` are the numbers of its messages.

    ``tokens`` is what a token count, or that of a batch, adds; ``pause`` is how many seconds to
    wait afterwards.
    """

    deed: Deed
    first: int
    count: int
    tokens: int
    pause: float


def session_of(client: int, life: int) -> str:
    """The session that one life of a client writes to."""
    return f"c{client}-{life}"


def word_of(session: str, number: int) -> str:
    """The word that only this message holds."""
    return f"w{session.replace('-', 'x')}x{number}"


def tasks(seed: int, client: int, life: int) -> Iterator[Task]:
    """The tasks of one life of a client. Messages are numbered from one."""
    chance = random.Random(f"tasks of {seed}, {client}, {life}")
    deeds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    number = 1
    while True:
        deed = chance.choices(deeds, weights)[0]
        least, most = _COUNTS.get(deed, (1, 1))
        count = chance.randint(least, most)
        pause = 0.0 if chance.random() < 0.6 else chance.uniform(0, 0.02)
        yield Task(deed, number, count, chance.randint(1, 9), pause)
        number += count


def message_of(seed: int, session: str, number: int) -> dict[str, Any]:
    """A message's fields: all that was written can be made again from its number."""
    chance = random.Random(f"message of {seed}, {session}, {number}")
    words = chance.choices(_WORDS, k=chance.randint(1, 30))
    message: dict[str, Any] = {
        "role": chance.choice(("user", "assistant", "tool")),
        "content": " ".join([word_of(session, number), *words]),
        "timestamp": 1_700_000_000.0 + number,
    }
    if message["role"] == "assistant" and chance.random() < 0.3:
        names = chance.sample(("read", "write", "search"), chance.randint(1, 3))
        message["tool_calls"] = [{"name": name, "arguments": {"n": number}} for name in names]
    return message
