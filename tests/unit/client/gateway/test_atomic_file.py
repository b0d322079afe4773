"""Files that are replaced: whole, private, and only by who holds the lock."""

import errno
import fcntl
import os
import stat
import time
from pathlib import Path

import pytest

from sessiond_client.gateway import atomic_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def test_a_new_file_is_private_and_one_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_file.replace_file(path, b"one")
    assert mode_of(path) == 0o600
    path.chmod(0o644)
    atomic_file.replace_file(path, b"two")
    assert (path.read_bytes(), mode_of(path)) == (b"two", 0o644)
    atomic_file.replace_file(path, b"three", mode=0o640)
    assert (path.read_bytes(), mode_of(path)) == (b"three", 0o640)
    assert names_in(tmp_path) == ["file"]


def test_what_a_killed_process_left_aside_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    aside = tmp_path / "file.aside"
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    aside.symlink_to(victim)
    atomic_file.replace_file(path, b"new")
    assert (path.read_bytes(), victim.read_bytes()) == (b"new", b"untouched")
    assert names_in(tmp_path) == ["file", "victim"]


@pytest.mark.parametrize("failing", ["fsync", "write"])
def test_a_failure_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    atomic_file.replace_file(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(OSError, match="no space"):
            atomic_file.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_the_new_content_is_on_disk_before_it_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    seen: list[tuple[str, bool]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        seen.append((kind, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    atomic_file.replace_file(path, b"new")
    assert seen == [("file", False), ("directory", True)]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    atomic_file.replace_file(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_the_lock_keeps_others_out_until_it_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_file.held(path), path.open("rb") as other:
        assert mode_of(path.parent) == 0o700
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_is_never_let_go_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now, pauses = tmp_path / "file", [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        pauses.append(seconds)

    monkeypatch.setattr(atomic_file, "clock", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    with (
        atomic_file.held(path),
        pytest.raises(TimeoutError, match=r"does not let go of .*file"),
        atomic_file.held(path, patience=2.0),
    ):
        raise AssertionError("two hold one lock")
    assert 2.0 <= now[0] <= 2.1
    assert pauses == sorted(pauses)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_was_replaced_or_removed_meanwhile_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    flock = fcntl.flock
    waits = 0

    def flock_after_somebody_else(descriptor: int, operation: int) -> None:
        nonlocal waits
        waits += 1
        if waits == 1 and replaced:
            atomic_file.replace_file(path, b"new")
        elif waits == 1:
            path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_somebody_else)
    with atomic_file.held(path) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), path.stat())
    assert waits == 2
    assert path.read_bytes() == (b"new" if replaced else b"")
