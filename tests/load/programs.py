"""Running what is compared: each program on a new folder of the same disk, with the same text."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
SESSIOND: Final = "sessiond"
_CANNOT: Final = 3
_PATIENCE: Final = 900.0

Result = dict[str, Any]


class Missing(Exception):
    """A program cannot do what was asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One program at one kind of work. ``program`` is ``sessiond`` or the name of a peer."""

    program: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ground:
    """What all runs have in common: the disk, the text, the time.

    ``paths`` are searched for packages that are not installed here (hermes-agent); every program
    gets ``environment`` on top of its own.
    """

    folder: Path
    text: Path
    seconds: float
    warm_up: float
    paths: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, entry: Entry) -> Result:
        """One run of a program from nothing; Missing if it cannot do it."""
        with tempfile.TemporaryDirectory(prefix=f"{entry.program}-", dir=self.folder) as folder:
            words = [*_command(entry.program, Path(folder)), *self.options, *entry.options]
            return self.result(words, Path(folder))

    @property
    def options(self) -> tuple[str, ...]:
        """The options that every program understands."""
        return (
            "--seconds", f"{self.seconds:g}",
            "--warm-up", f"{self.warm_up:g}",
            "--text", str(self.text),
        )  # fmt: skip

    def result(self, words: Sequence[str], home: Path) -> Result:
        """What a program printed; RuntimeError with what it said if it failed."""
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=self._environment(home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if done.returncode == _CANNOT:
            raise Missing(json.loads(done.stdout)["unsupported"])
        if done.returncode != 0:
            raise RuntimeError(
                f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}"
            )
        result: Result = json.loads(done.stdout)
        return result

    def _environment(self, home: Path) -> dict[str, str]:
        # Nothing of the user's own may be read or written: neither settings nor a database.
        kept = {name: value for name, value in os.environ.items() if "SESSIOND" not in name}
        paths = os.pathsep.join(map(str, self.paths))
        return {**kept, "HOME": str(home), "PYTHONPATH": paths, **self.environment}


def _command(program: str, folder: Path) -> list[str]:
    if program == SESSIOND:
        return [*SESSIONCTL, "--json", "--folder", str(folder)]
    module = f"tests.load.peers.{program}"
    return [sys.executable, "-m", module, "--database", str(folder / "new.db")]


SESSIONCTL: Final = (sys.executable, "-m", "sessiond_client.cli", "bench")
