"""The generated files are current, and both classes offer the same."""

import inspect
import runpy
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
NOT_AWAITED = {"append_message_nowait", "batch", "iter_export", "sanitize_title", "watch"}


def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_the_generated_files_are_current() -> None:
    stale = script()["stale"]()
    assert stale == [], "run python client/generate_async.py"


def test_check_changes_nothing_and_passes() -> None:
    subprocess.run([sys.executable, str(SCRIPT), "--check"], check=True)


def test_a_changed_call_changes_what_is_generated(tmp_path: Path) -> None:
    names = script()
    twin = names["TWINS"][0]
    source = twin.source.read_text("utf-8")
    changed = tmp_path / "_sync.py"
    changed.write_text(source.replace("def get_stats(", "def get_figures("), "utf-8")
    text = names["async_text"](twin._replace(source=changed))
    assert "async def get_figures(" in text
    assert text != twin.target.read_text("utf-8")
    changed.write_text(source.replace("number of threads", "number"), "utf-8")
    with pytest.raises(ValueError, match="does not say once"):
        names["async_text"](twin._replace(source=changed))


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
