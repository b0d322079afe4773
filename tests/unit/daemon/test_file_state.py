"""What lies at a path, told as ``stat`` tells it, but without the times."""

import ctypes
import os
from pathlib import Path

import pytest

from sessiond.sqlite import file_state as module
from sessiond.sqlite.file_state import FileState, Look


@pytest.fixture(params=["the system's own way", "without it"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without it":
        monkeypatch.setattr(module, "statx", None)
    elif module.statx is None:
        pytest.skip("this system's C library has no statx")


@pytest.mark.usefixtures("way")
def test_it_is_what_stat_says(tmp_path: Path) -> None:
    file = tmp_path / "größe"
    file.write_bytes(b"x" * 12_345)
    (tmp_path / "name two").hardlink_to(file)
    (tmp_path / "leads there").symlink_to(file)
    for path in (file, tmp_path, tmp_path / "leads there", Path("/dev/null")):
        assert Look(str(path))() == FileState.of(os.stat(path))
    assert Look(str(file))()[2:] == (2, 12_345)


@pytest.mark.usefixtures("way")
def test_what_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError) as error:
        Look(missing)()
    assert error.value.filename == missing


def test_a_system_that_cannot_do_it_is_asked_with_stat(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, *_arguments: object, **_options: object) -> None:
            self.statx = lambda *_: -1  # ENOSYS

    monkeypatch.setattr(ctypes, "CDLL", Library)
    assert module.find_statx() is None
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: object())
    assert module.find_statx() is None
