"""The generated files are current, and both classes offer the same."""

import inspect
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sessiond_client
from sessiond_client import AsyncSessionDB, SessionDB
from sessiond_client._store import Store

SCRIPT = Path(sessiond_client.__file__).parents[1] / "generate_async.py"

PUBLIC = [name for name in vars(SessionDB) if not name.startswith("_")]
NOT_AWAITED = {"batch", "append_message_nowait", "iter_export", "sanitize_title"}


def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_the_generated_files_are_current() -> None:
    stale = script()["stale"]()
    assert stale == [], "run python client/generate_async.py"


def test_check_says_what_is_not_current(tmp_path: Path) -> None:
    folder = tmp_path / "client" / "sessiond_client"
    # The format is said in the one, and what is first-party by the presence of the other.
    shutil.copy(SCRIPT.parents[1] / "pyproject.toml", tmp_path)
    (tmp_path / "protocol" / "sessiond_protocol").mkdir(parents=True)
    shutil.copytree(
        SCRIPT.parent / "sessiond_client", folder, ignore=shutil.ignore_patterns("__pycache__")
    )
    copy = Path(shutil.copy(SCRIPT, folder.parent))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(copy), *arguments]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    assert run("--check").returncode == 0
    (folder / "_async.py").unlink()
    checked = run("--check")
    assert checked.returncode == 1
    assert "_async.py is not current" in checked.stderr
    assert not (folder / "_async.py").exists()
    assert run().returncode == 0
    assert run("--check").returncode == 0
    source = (folder / "_sync.py").read_text("utf-8")
    (folder / "_sync.py").write_text(source.replace("def get_stats(", "def get_figures("), "utf-8")
    assert run("--check").returncode == 1
    (folder / "_sync.py").write_text(source.replace("number of threads", "number"), "utf-8")
    assert "does not say once" in run("--check").stderr


@pytest.mark.parametrize("name", PUBLIC)
def test_both_classes_have_the_same_call(name: str) -> None:
    blocking, awaiting = getattr(SessionDB, name), getattr(AsyncSessionDB, name)
    if not callable(blocking):
        assert blocking == awaiting
        return
    ours, theirs = inspect.signature(blocking), inspect.signature(awaiting)
    assert list(ours.parameters.values()) == list(theirs.parameters.values())
    assert blocking.__doc__ == awaiting.__doc__
    assert inspect.iscoroutinefunction(awaiting) is (name not in NOT_AWAITED)


def test_the_asyncio_class_has_nothing_of_its_own() -> None:
    assert set(vars(AsyncSessionDB)) == set(vars(SessionDB))
    assert issubclass(AsyncSessionDB, Store)
    assert issubclass(SessionDB, Store)


def test_a_blocking_program_imports_no_asyncio() -> None:
    code = (
        "import sys, sessiond_client\n"
        "sessiond_client.SessionDB('/nonexistent/state.db', autostart=False).close()\n"
        "assert 'asyncio' not in sys.modules\n"
        "assert sessiond_client.AsyncSessionDB.__name__ == 'AsyncSessionDB'\n"
        "assert 'asyncio' in sys.modules\n"
        "assert 'uvloop' not in sys.modules and 'apsw' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names() -> None:
    for name in sessiond_client.__all__:
        assert getattr(sessiond_client, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = sessiond_client.nothing
