"""What the commands that start jobs say before and after."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from sessiond_client.cli.commands import backup, check, checkpoint, vacuum
from sessiond_protocol.requests.job import JobState

MIB = 1024**2
NOON = time.struct_time((2025, 11, 20, 12, 30, 5, 0, 0, 0))


def ended(kind: str, state: str = "done", **result: Any) -> JobState:
    return JobState(1, kind, state, "done", 1.0, 1.0, 2.0, None, result, 5)  # type: ignore[arg-type]


def test_a_directory_gets_a_file_named_after_the_time(tmp_path: Path) -> None:
    file = os.fspath(tmp_path / "mine.db")
    assert backup.target_of(file, "/x/state.db", NOON) == file
    named = backup.target_of(os.fspath(tmp_path), "/x/state.db", NOON)
    assert named == f"{tmp_path}/state-2025-11-20-123005.db"


@pytest.mark.parametrize(
    ("jobs", "seconds"),
    [
        ([], 10.0),  # 40 MB a second
        ([ended("backup", bytes=240_000_000, seconds=1.0)], 5.0),
        ([ended("vacuum", bytes_before=9, bytes_after=20_000_000, seconds=1.0)], 20.0),
        ([ended("vacuum", bytes_after=1e6, seconds=1.0), ended("backup", bytes=1, seconds=1)], 400),
        ([ended("backup", bytes=240_000_000, seconds=0.01)], 10.0),  # too short to tell
        ([ended("check", seconds=1.0)], 10.0),
    ],
)
def test_a_vacuums_time_is_that_of_what_was_done_before(
    jobs: list[JobState], seconds: float
) -> None:
    assert vacuum.estimate(400_000_000, jobs) == pytest.approx(seconds)


def test_a_vacuum_says_what_it_gains_and_costs() -> None:
    pages = {"page_size": 4096, "page_count": 25 * 256, "free_pages": 5 * 256}
    assert vacuum.question(pages, []) == (
        "Write 25 MiB anew to free 5 MiB? Others cannot write for about a second."
    )
    slow = [ended("vacuum", bytes_after=MIB, seconds=8.0)]
    assert vacuum.question(pages, slow).endswith("Others cannot write for some 2 min 40 s.")


def report(**changes: Any) -> dict[str, Any]:
    sound = {
        "sound": True, "findings": [], "counts": {}, "skipped": [], "repaired": [], "seconds": 0.5,
    }  # fmt: skip
    return {**sound, **changes}


def test_a_sound_database() -> None:
    assert list(check.lines(report())) == ["nothing is wrong, looked for 0.50 s"]
    assert check.unmended(report()) == []
    first, _ = check.lines(report(skipped=["foreign keys: too many"]))
    assert first == "not looked at: foreign keys: too many"


def test_findings_are_listed_and_what_helps() -> None:
    found = report(
        sound=False,
        findings=[{"kind": "counter", "detail": "s has\n3"}] * 2,
        counts={"counter": 250, "index": 1},
    )
    assert list(check.lines(found)) == [
        "counter: s has 3",
        "counter: s has 3",
        "counter: 248 more",
        "index: 1 more",
        "wrong: counter, index; sessionctl check --repair mends it",
    ]
    assert check.unmended(found) == ["counter", "index"]


def test_what_was_mended_is_wrong_no_more() -> None:
    counts = {"counter": 1, "file": 1}
    found = report(sound=False, counts=counts, repaired=["counter"])
    assert list(check.lines(found))[-2:] == [
        "mended: counter",
        "wrong: file; bring back a backup with sessionctl restore",
    ]
    whole = report(sound=False, counts={"counter": 1}, repaired=["counter"])
    assert list(check.lines(whole))[-1] == "mended: counter"
    assert check.unmended(whole) == []


def test_who_is_in_the_way_of_a_checkpoint() -> None:
    done = {"busy": False, "log": 0, "checkpointed": 0, "held_by": []}
    assert checkpoint.text(done) == "the write-ahead log is empty"
    held = {"busy": True, "log": 1200, "checkpointed": 3, "held_by": ["pid 7 (python)"]}
    assert checkpoint.text(held) == (
        "3 of 1,200 pages moved, the log stays: pid 7 (python) reads through it"
    )
