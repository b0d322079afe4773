"""Taking the room from a disk that is being written to."""

import errno
from pathlib import Path

import pytest

from sessiond_client.torture import disk


def test_a_disk_that_grows_while_it_is_made_small_is_made_small_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [errno.EINVAL, errno.EINVAL, 0]
    asked: list[str] = []

    def mount(_path: Path, _flags: int, options: str) -> None:
        asked.append(options)
        if number := answers.pop(0):
            raise OSError(number, "as told")

    monkeypatch.setattr(disk, "_mount", mount)
    disk.Mounted(tmp_path).starve(1)
    assert len(asked) == 3
    answers[:] = [errno.EPERM]
    with pytest.raises(PermissionError):
        disk.Mounted(tmp_path).starve(1)
