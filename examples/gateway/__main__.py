"""Run the script in a scratch folder and show what came of it."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.gateway.check import differences
from examples.gateway.run import GATEWAYS, Outcome, Scene, daemon
from examples.gateway.script import DAYS, Room


async def perform(folder: Path) -> Outcome:
    """The scene from beginning to end, and whether the store holds its script."""
    async with daemon(folder):
        async with Scene(folder) as scene:
            outcome = await scene.play()
        outcome.wrong += await asyncio.to_thread(lambda: list(differences(folder, outcome.rooms)))
    return outcome


def shown(rooms: list[Room]) -> Table:
    """Where one person talked, and in which sessions."""
    table = Table("place", "first question", "messages", "sessions", title="one person's rooms")
    for room in rooms:
        said = room.transcripts[0]
        table.add_row(
            f"{room.source.platform}, {room.source.description}",
            said[0],
            str(sum(map(len, room.transcripts))),
            "\n".join(room.sessions),
        )
    return table


def main() -> int:
    """Exit status 0 if every transcript equals its script."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        outcome = asyncio.run(perform(Path(folder)))
        seconds = time.monotonic() - began
    console.print(shown(outcome.rooms[:6]))
    sessions = sum(len(room.sessions) for room in outcome.rooms)
    console.print(
        f"{outcome.questions} questions in {len(outcome.rooms)} rooms on {DAYS} days,"
        f" answered in {sessions} sessions by {len(GATEWAYS)} gateways in {seconds:.1f} s;"
        f" {outcome.killed} gateways were killed and {outcome.delivered_again} messages"
        " delivered again"
    )
    for each in outcome.wrong:
        console.print(f"wrong: {each}", style="red")
    console.print("every transcript equals its script" if not outcome.wrong else "it went wrong")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
