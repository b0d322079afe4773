"""The example gateway: what people were told equals what they wrote, whoever was killed."""

import asyncio
from pathlib import Path

from examples.gateway.__main__ import perform
from examples.gateway.agent import Agent
from examples.gateway.script import DAYS, dialogues


def test_every_transcript_equals_its_script(tmp_path: Path) -> None:
    outcome = asyncio.run(perform(tmp_path))
    assert outcome.wrong == []
    assert outcome.killed == DAYS
    assert outcome.delivered_again > 0, "nobody was killed in the middle of anything"
    assert outcome.questions == sum(
        len(turns) // 2 for room in outcome.rooms for turns in room.days
    )


def test_the_agent_answers_only_from_the_whole_conversation() -> None:
    agent = Agent(dialogues())
    turns = next(turns for turns in dialogues() if len(turns) > 4)
    history = [{"content": text} for text in turns[:3]]
    assert agent.answer("", history) == turns[3]
    assert agent.answer("", history[1:]) != turns[3]
