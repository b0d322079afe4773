"""What holds for every test: reproducible properties, and nothing left behind."""

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples at every run, however slow the machine is: a failure is a failure for all.
settings.register_profile(
    "repository", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
# New examples at every run: pytest --hypothesis-profile=explore
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repository")

PATIENCE = 5.0


@pytest.fixture(scope="session", autouse=True)
def _other_users_may_pass(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests that become another user must reach their scratch folder; root's is closed."""
    if os.geteuid() != 0:
        return
    base = tmp_path_factory.getbasetemp()
    for folder in (base, *base.parents):
        if folder.name == "tmp" or folder == folder.parent:
            break
        folder.chmod(folder.stat().st_mode | 0o011)


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """No thread, child process or file descriptor outlives a module's tests."""
    resource_tracker.ensure_running()  # multiprocessing starts it once and keeps it
    threads, children, descriptors = set(threading.enumerate()), _children(), _descriptors()
    yield
    deadline = time.monotonic() + PATIENCE
    while left := _left(threads, children, descriptors):
        assert time.monotonic() < deadline, f"left behind: {', '.join(left)}"
        gc.collect()
        time.sleep(0.01)


def _left(threads: set[threading.Thread], children: set[str], descriptors: set[str]) -> list[str]:
    more = [f"thread {each.name}" for each in threading.enumerate() if each not in threads]
    more += [f"child {pid}" for pid in sorted(_children() - children)]
    more += [f"descriptor {each}" for each in sorted(_descriptors() - descriptors)]
    return more


def _children() -> set[str]:
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return set()
    found: set[str] = set()
    for task in tasks.iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            found.update((task / "children").read_text().split())
    return found


def _descriptors() -> set[str]:
    """Open files and sockets by number and what they lead to; empty where the system hides them."""
    folder = Path("/proc/self/fd")
    found = set()
    for entry in folder.iterdir() if folder.is_dir() else ():
        try:
            found.add(f"{entry.name} -> {os.readlink(entry)}")
        except OSError:
            continue
    return {each for each in found if "/proc/" not in each}
