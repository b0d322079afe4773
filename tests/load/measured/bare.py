"""What SQLite alone takes for the same answers: the standard library's, in a process of its own.

``python -m tests.load.measured.bare DATABASE`` reads one JSON list of words a line and answers
with the ids that each found and the seconds that each took; ``null`` for a word asks for the 20
newest sessions instead. Two SQLite libraries in one process must not open one file.
"""

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.load.peers.plain import BARE_SEARCH
from tests.load.programs import ROOT

_LIST: Final = "SELECT id FROM sessions ORDER BY started_at DESC, id DESC LIMIT 20"

Answers = list[tuple[list[int | str], float]]


class Bare:
    """A running program."""

    def __init__(self, program: "subprocess.Popen[str]") -> None:
        self._program = program

    def ask(self, words: Sequence[str | None]) -> Answers:
        """What each word found, and the seconds that it took."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(words) + "\n")
        self._program.stdin.flush()
        return [(ids, seconds) for ids, seconds in json.loads(self._program.stdout.readline())]


@contextlib.contextmanager
def bare(database: Path) -> Iterator[Bare]:
    """A program that reads this database; ended afterwards."""
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.load.measured.bare", str(database)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Bare(program)
    finally:
        program.communicate()


def main(path: str) -> None:
    """Answer until the input ends."""
    uri = f"{Path(path).as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        for line in sys.stdin:
            print(json.dumps([_answer(connection, word) for word in json.loads(line)]), flush=True)


def _answer(connection: sqlite3.Connection, word: str | None) -> tuple[list[int | str], float]:
    started = time.perf_counter()
    if word is None:
        rows = connection.execute(_LIST).fetchall()
    else:
        rows = connection.execute(BARE_SEARCH, (f'"{word}"',)).fetchall()
    taken = time.perf_counter() - started
    return [row[0] for row in rows], taken


if __name__ == "__main__":
    main(sys.argv[1])
