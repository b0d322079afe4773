"""The agent: it knows some dialogues by heart and goes on with the one it is in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class Agent:
    """Answers from what was said so far: without the whole history it has no answer."""

    def __init__(self, dialogues: Iterable[Sequence[str]]) -> None:
        self._answers: dict[tuple[str, ...], str] = {}
        for turns in dialogues:
            for place in range(1, len(turns), 2):
                self._answers[tuple(turns[:place])] = turns[place]
        self._longest = max(map(len, self._answers))

    def answer(self, prompt: str, history: Sequence[Mapping[str, Any]]) -> str:
        """What comes next. ``prompt`` says where the conversation is; a model would read it."""
        texts = [str(message["content"]) for message in history]
        longest = min(self._longest, len(texts))
        for length in range(longest - (longest - 1) % 2, 0, -2):
            answer = self._answers.get(tuple(texts[-length:]))
            if answer is not None:
                return answer
        return f"I have lost the thread after {len(texts)} messages."
