"""What installing and uninstalling come to, step by step: planned first, then said and done."""

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sessiond_client.cli.exits import Refused
from sessiond_client.cli.unit_files import MARK, Scope

# What installing may have made, below the folder of units; never an administrator's own drop-in.
_UNITS: Final = ("sessiond.service", "sessiond.socket", "sessiond@.service", "sessiond@.socket")
_DROP_INS: Final = ("metrics.conf", "database.conf", "socket.conf")

Run = Callable[[Sequence[str]], str | None]


@dataclass(frozen=True, slots=True)
class Write:
    """Put a file at ``path``, in the place of one that was written by an earlier installing."""

    path: str
    content: str

    def __str__(self) -> str:
        if not os.path.exists(self.path):
            return f"write {self.path}"
        return f"{'leave' if self.is_done() else 'rewrite'} {self.path}"

    def is_done(self) -> bool:
        """Whether the file has this content already."""
        return _content(self.path) == self.content

    def do(self, run: Run) -> str | None:
        if not self.is_done():
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            aside = f"{self.path}.new"
            Path(aside).write_text(self.content, encoding="utf-8")
            os.chmod(aside, 0o644)  # whatever the umask: managers and people read it
            os.replace(aside, self.path)
        return None


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a file, a link or an empty folder away."""

    path: str

    def __str__(self) -> str:
        return f"remove {self.path}"

    def do(self, run: Run) -> str | None:
        if os.path.isdir(self.path) and not os.path.islink(self.path):
            os.rmdir(self.path)
        elif os.path.lexists(self.path):
            os.unlink(self.path)
        return None


@dataclass(frozen=True, slots=True)
class Execute:
    """Run a program of systemd."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"run {' '.join(self.words)}"

    def do(self, run: Run) -> str | None:
        return run(self.words)


Step = Write | Remove | Execute


def execute(words: Sequence[str]) -> str | None:
    """Run a program; None, or what it said when it failed."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    if done.returncode == 0:
        return None
    return (done.stderr or done.stdout).strip() or f"{words[0]} ended with {done.returncode}"


def systemctl(scope: Scope, *words: str) -> Execute:
    """A call of ``systemctl`` for the system's or the user's manager."""
    manager = ("--user",) if scope is Scope.USER else ()
    return Execute(("systemctl", *manager, *words))


def manager_runs(scope: Scope, uid: int, booted: str = "/run/systemd/system") -> bool:
    """Whether there is a service manager that can be told; in containers there often is none."""
    if scope is Scope.SYSTEM:
        return os.path.isdir(booted)
    return os.path.exists(f"/run/user/{uid}/systemd/private")


# --- writing -----------------------------------------------------------------------------------


def check_ours(steps: Iterable[Step]) -> None:
    """Refuse to write over files that somebody else has put there."""
    for step in steps:
        if isinstance(step, Write) and not step.is_done():
            found = _content(step.path)
            if found is not None and not found.startswith(MARK):
                raise Refused(
                    f"{step.path} exists and was not written by sessionctl install:"
                    " move it away, or write over it with --force",
                    os.EX_CANTCREAT,
                )


def written(folder: str, files: Mapping[str, str]) -> list[Step]:
    """Steps that write files below a folder, in the order of their paths."""
    return [Write(os.path.join(folder, path), text) for path, text in sorted(files.items())]


# --- removing ----------------------------------------------------------------------------------


def removed_files(root: str, files: Iterable[str]) -> list[Step]:
    """Steps that remove those of these files that are ours."""
    found = (os.path.join(root, path) for path in files)
    return [Remove(path) for path in found if _is_ours(path)]


def removed(folder: str, name: str | None) -> list[Step]:
    """Steps that remove what installing has made: all of it, or one database's drop-ins.

    Files that do not bear our mark stay, and with them their folders.
    """
    steps: list[Step] = []
    if name is None:
        steps += removed_files(folder, _UNITS)
    for drop_ins in _drop_in_folders(folder, name):
        ours = removed_files(drop_ins, _DROP_INS)
        steps += ours
        if ours and len(ours) == len(os.listdir(drop_ins)):
            steps.append(Remove(drop_ins))
    return steps


def _drop_in_folders(folder: str, name: str | None) -> Iterator[str]:
    if name is not None:
        for kind in ("service", "socket"):
            path = os.path.join(folder, f"sessiond@{name}.{kind}.d")
            if os.path.isdir(path):
                yield path
        return
    for found in sorted(Path(folder).glob("sessiond[.@]*.d")):
        yield str(found)


def links(folder: str, name: str | None) -> list[Step]:
    """Steps that remove the links of enabled units, for managers that do not run."""
    pattern = "sessiond[.@]*" if name is None else f"sessiond@{name}.*"
    found = sorted(Path(folder).glob(f"*.wants/{pattern}"))
    return [Remove(str(path)) for path in found if path.is_symlink()]


def _is_ours(path: str) -> bool:
    content = _content(path)
    return content is not None and content.startswith(MARK)


def _content(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
