"""hermes-agent's own ``SessionDB``, in a process of its own, for tests that share a file with it.

A process, because a database is never opened by two SQLite libraries in one, and because its
package brings modules named ``utils``, ``cli`` and ``tools``.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

ROOT: Final = Path(__file__).parents[2]
# Where the Makefile installs what bench.lock pins.
FOLDER: Final = ROOT / "build" / "hermes-agent"
PATIENCE: Final = 30.0

INSTALLED: Final = (FOLDER / "hermes_state.py").is_file() or (
    importlib.util.find_spec("hermes_state") is not None
)
needs_hermes = pytest.mark.skipif(
    not INSTALLED,
    reason="needs hermes-agent: python -m pip install --no-deps --require-hashes --target"
    " build/hermes-agent -r bench.lock (make test does it where it can)",
)

_PROGRAM: Final = """
import json, sys
from pathlib import Path
import hermes_state

db = hermes_state.SessionDB(Path(sys.argv[1]))

def ask(sql):
    return [list(row) for row in db._conn.execute(sql).fetchall()]

for line in sys.stdin:
    name, arguments, options = json.loads(line)
    try:
        call = ask if name == "ask" else getattr(db, name)
        answer = {"result": call(*arguments, **options)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer, default=str), flush=True)
db.close()
"""


class HermesError(Exception):
    """What its ``SessionDB`` raised."""


class Hermes:
    """Its ``SessionDB`` on a file; ``call`` its methods, which see JSON and answer with JSON."""

    def __init__(self, database: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment(database.parent)},
        )

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """What a method returns; raises :class:`HermesError` for what it raises."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, arguments, options]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise HermesError(self._process.communicate(timeout=PATIENCE)[1])
        answer = json.loads(line)
        if "error" in answer:
            raise HermesError(answer["error"])
        return answer["result"]

    def ask(self, sql: str) -> list[list[Any]]:
        """The rows of a statement on its connection."""
        rows: list[list[Any]] = self.call("ask", sql)
        return rows

    def close(self) -> None:
        """Close its database and end the process."""
        self._process.communicate(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()


def environment(home: Path) -> dict[str, str]:
    """What a program needs to import it, and to leave its notes under ``home``."""
    paths = [str(FOLDER), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HERMES_HOME": str(home),
        "HOME": str(home),
    }
