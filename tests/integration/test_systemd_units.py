"""The units as systemd's own tools see them: nothing unknown, and little exposed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sessiond_client.cli.unit_files import Scope, Wanted, render, system_files

PROGRAM = str(Path(sys.executable).with_name("sessiond"))

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def analyze(scope: Scope, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``systemd-analyze`` on units in a folder, with a runtime directory of its own."""
    runtime = folder / "run"
    runtime.mkdir(exist_ok=True)
    manager = ["--user"] if scope is Scope.USER else ["--system"]
    return subprocess.run(
        ["systemd-analyze", *manager, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
    )


def write(folder: Path, wanted: Wanted) -> None:
    for path, text in render(wanted).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("name", [None, "lab"])
def test_systemd_understands_every_line(scope: Scope, name: str | None, tmp_path: Path) -> None:
    socket = "%t/sessiond/ab.sock" if scope is Scope.USER else None
    write(tmp_path, Wanted(scope, PROGRAM, name, "/tmp/a b.db", socket, "127.0.0.1:9464"))
    units = [f"{tmp_path}/sessiond{'@work' if name else ''}.{kind}" for kind in
             ("service", "socket")]  # fmt: skip
    done = analyze(scope, tmp_path, "verify", "--man=no", *units)
    said = [line for line in done.stderr.splitlines() if "sessiond" in line]
    assert said == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["sessiond.service", "sessiond@.service"])
def test_the_system_service_exposes_little(name: str, tmp_path: Path) -> None:
    write(tmp_path, Wanted(Scope.SYSTEM, PROGRAM, "lab" if "@" in name else None))
    # The threshold is in tenths.
    words = ("security", "--offline=yes", "--threshold=5", "--no-pager", str(tmp_path / name))
    done = analyze(Scope.SYSTEM, tmp_path, *words)
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


@pytest.mark.skipif(
    not (shutil.which("systemd-sysusers") and shutil.which("systemd-tmpfiles")),
    reason="systemd-sysusers or systemd-tmpfiles is not installed",
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders for another user")
def test_the_user_and_the_folder_are_made(tmp_path: Path) -> None:
    for path, text in system_files().items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    for words in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        done = subprocess.run(
            [*words, f"--root={tmp_path}", "sessiond.conf"],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    (group,) = [line.split(":") for line in (tmp_path / "etc/group").read_text().splitlines()
                if line.startswith("sessiond:")]  # fmt: skip
    made = (tmp_path / "run" / "sessiond").stat()
    assert (made.st_mode & 0o777, made.st_uid, made.st_gid) == (0o750, 0, int(group[2]))
