"""A real systemd, booted as process 1 of namespaces of its own; see ``start.sh``."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

PATIENCE: Final = 20.0
_HERE: Final = Path(__file__).parent
_ROOT: Final = Path(__file__).resolve().parents[3]
_SYSTEMD: Final = "/lib/systemd/systemd"
_TOOLS: Final = ("unshare", "nsenter", "setpriv", "mount", "umount", "systemctl", "journalctl")
_SYS_ADMIN: Final = 21  # from capabilities(7)
_PROBE: Final = (
    "mount -t tmpfs tmpfs {0} && mkdir {0}/u {0}/w {0}/r &&"
    " mount -t overlay overlay -o lowerdir=/,upperdir={0}/u,workdir={0}/w {0}/r &&"
    " mount -t cgroup2 cgroup2 {0}/w"
)


def why_not() -> str | None:
    """What this machine lacks for booting a systemd; None: nothing."""
    if os.geteuid() != 0:
        return "booting systemd needs root"
    if not _has_capability(_SYS_ADMIN):
        return "booting systemd needs CAP_SYS_ADMIN"
    if not os.path.exists(_SYSTEMD):
        return f"there is no {_SYSTEMD}"
    if str(_ROOT).startswith(("/tmp/", "/var/tmp/")):
        return "this checkout lies in a temporary folder, which the units hide; clone it elsewhere"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} are not installed"
    with tempfile.TemporaryDirectory() as scratch:
        words = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "sh", "-c",
                 _PROBE.format(scratch)]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"namespaces, overlayfs or cgroup2 cannot be used: {done.stderr.strip()}"
    return None


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


class Booted:
    """A running systemd. Everything it starts ends with :meth:`close`, or with this process.

    ``payload`` is a folder whose content is laid over the root before the start.
    """

    def __init__(self, payload: Path) -> None:
        self._undo = ExitStack()
        try:
            self._boot(payload)
        except BaseException:
            self.close()
            raise

    def _boot(self, payload: Path) -> None:
        scratch = Path(tempfile.mkdtemp(prefix="sessiond-systemd-"))
        self._undo.callback(shutil.rmtree, scratch)
        groups = scratch / "cgroups"
        for folder in (groups, scratch / "root"):
            folder.mkdir()
        subprocess.run(["mount", "-t", "cgroup2", "none", str(groups)], check=True)
        self._undo.callback(subprocess.run, ["umount", str(groups)], check=True)
        self._group = groups / scratch.name
        self._group.mkdir()
        self._undo.callback(self._remove_groups)
        self._output = scratch / "console"
        with self._output.open("wb") as console:
            # If this process is killed, the kernel ends all of it.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "bash", str(_HERE / "start.sh"),
                 str(scratch / "root"), str(payload), str(self._group)],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )  # fmt: skip
        self._undo.callback(self._end)
        self.pid = self._await(self._first_process, "a process 1")
        self._await(lambda: self.state("test.target") == "active", "test.target")

    def close(self) -> None:
        """End everything in there and remove what was made for it."""
        self._undo.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _remove_groups(self) -> None:
        def remove() -> bool:
            for folder, _, _ in os.walk(self._group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    return False  # its last process is on its way out
            return True

        self._await(remove, "the end of all processes")

    def _await(self, look: Callable[[], object], what: str) -> int:
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {what} in vain:\n{self.console}")
            time.sleep(0.02)
        return int(found) if isinstance(found, int) else 1

    def _first_process(self) -> int:
        if self._process.poll() is not None:
            raise AssertionError(f"systemd did not start:\n{self.console}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = children.read_text().split()
        if not found or "systemd" not in Path(f"/proc/{found[0]}/comm").read_text():
            return 0
        return int(found[0])

    # --- inside ----------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        """Its root, as it is reached from here: files, and sockets to connect to."""
        return Path(f"/proc/{self.pid}/root")

    def inside(self, *words: str, user: str | None = None, **environment: str) -> list[str]:
        """The command line that runs a command in there, as root or as a user."""
        become = () if user is None else (
            "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"
        )  # fmt: skip
        variables = [f"{name}={text}" for name, text in environment.items()]
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-i", "-u", "-n", "-C", "--root",
                "--wd", *become, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "SYSTEMD_PAGER=", *variables, *words]  # fmt: skip

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command in there as root; what it printed."""
        done = subprocess.run(
            self.inside(*words), capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def console(self) -> str:
        """What was said before there was a journal."""
        return self._output.read_text("utf-8", "replace")

    def systemctl(self, *words: str) -> str:
        """``systemctl`` in there."""
        return self.run("systemctl", *words)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def state(self, unit: str) -> str:
        """``active``, ``inactive``, ``failed`` …"""
        return self.run("systemctl", "is-active", unit, check=False).strip()

    def await_state(self, unit: str, state: str) -> None:
        """Wait until a unit is in this state."""
        self._await(lambda: self.state(unit) == state, f"{unit} to be {state}")

    def journal(self, unit: str) -> str:
        """What a unit has logged, and what the manager said of it."""
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit)

    def await_journal(self, unit: str, text: str) -> None:
        """Wait until a unit's journal has this text."""
        self._await(lambda: text in self.journal(unit), f"{text!r} in the journal of {unit}")

    def process_of(self, unit: str) -> int:
        """The one process of a service, by its number out here; 0 if there is none."""
        place = self._group / self.show(unit, "ControlGroup").lstrip("/") / "cgroup.procs"
        try:
            found = place.read_text().split()
        except OSError:
            return 0
        assert len(found) <= 1, f"{unit} has processes {found}"
        return int(found[0]) if found else 0

    def await_other_process(
        self, unit: str, pid: int, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Wait until a service is active with another process than this one."""

        def look() -> bool:
            meanwhile()
            return self.process_of(unit) not in (0, pid) and self.state(unit) == "active"

        self._await(look, f"another process of {unit}")

    def write(self, path: str, text: str) -> None:
        """Put a file in there, and have systemd read its units again."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        self.systemctl("daemon-reload")
