"""One run from a plan to a verdict."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sessiond_client import SessionDB
from sessiond_client.torture.journal import Life, read_lives
from sessiond_client.torture.plan import Fault, Kind, Plan
from sessiond_client.torture.run import Course, Run, Scene
from sessiond_client.torture.verdict import Examination, Verdict, sample_of_answered, search_for
from sessiond_client.torture.work import word_of

SAMPLE = 100


@dataclass(frozen=True, slots=True)
class Result:
    """What happened, and what was found."""

    course: Course
    verdict: Verdict

    @property
    def violations(self) -> list[str]:
        """Everything that must not be."""
        return [*self.course.violations, *self.verdict.violations]


def torture(plan: Plan, scene: Scene, told: Callable[[Fault], None] = lambda _: None) -> Result:
    """Carry out a plan and judge what is left."""
    return asyncio.run(_torture(plan, scene, told))


async def _torture(plan: Plan, scene: Scene, told: Callable[[Fault], None]) -> Result:
    run = Run(plan, scene, told)
    course = await run.carry_out()
    lives = read_lives(scene.folder, course.lives)
    if not course.lives:
        return Result(course, Verdict())
    course.violations += await asyncio.to_thread(_search, scene, lives)
    await run.stop_daemon()
    examination = Examination(
        scene.database,
        lives,
        plan.seed,
        room_was_taken=course.faults[Kind.FILL_DISK] > 0,
    )
    return Result(course, await asyncio.to_thread(examination))


def _search(scene: Scene, lives: list[Life]) -> list[str]:
    with SessionDB(
        scene.database, socket=scene.folder / "daemon.sock", autostart=False, timeout=scene.timeout
    ) as db:
        return list(search_for(db.search_messages, word_of, sample_of_answered(lives, SAMPLE)))
