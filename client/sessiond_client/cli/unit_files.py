"""The units of systemd, made from their sources: for a program, a database and a socket."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

MARK: Final = "# Written by sessionctl install, which writes it anew; yours is a drop-in.\n"
# What the sources name, where a package of a distribution installs it.
PACKAGED_PROGRAM: Final = "/usr/bin/sessiond"
PACKAGED_METRICS: Final = "127.0.0.1:9464"

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_RESERVED: Final = "state"


class Scope(Enum):
    """Which service manager runs the daemon."""

    SYSTEM = "system"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be installed.

    ``program`` is the absolute path of ``sessiond``. ``name`` is one of several databases, None
    the only one. ``database`` and ``socket`` are paths, None those of the source; ``%t`` in a
    socket's is the directory of the service manager's sockets. ``metrics`` is a loopback address
    and port.
    """

    scope: Scope
    program: str
    name: str | None = None
    database: str | None = None
    socket: str | None = None
    metrics: str | None = None


def sources() -> Traversable:
    """The folder of the unit files: in the installed package, or in a checkout."""
    packaged = files("sessiond_client") / "systemd"
    if packaged.is_dir():
        return packaged
    return Path(__file__).parents[3] / "systemd"


def check_name(name: str) -> str:
    """A name that may stand in a unit's; raises ``ValueError``."""
    if not _NAME.fullmatch(name) or name == _RESERVED:
        raise ValueError(
            f"name {name!r} must be of letters, digits, _, - and ., begin with one of the first"
            f" three, and not be {_RESERVED!r}"
        )
    return name


def check_address(address: str) -> str:
    """A loopback address and a port; raises ``ValueError``, as the daemon would at its start."""
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    try:
        loopback = bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(
            f"metrics must be a loopback address and a port such as {PACKAGED_METRICS},"
            f" {address!r} is not"
        )
    return address


def unit_name(name: str | None, kind: str) -> str:
    """``sessiond.socket``, or ``sessiond@lab.socket`` for the database ``lab``."""
    return f"sessiond.{kind}" if name is None else f"sessiond@{name}.{kind}"


def render(wanted: Wanted) -> dict[str, str]:
    """Every file by its path, which is relative to the folder of units."""
    template = "sessiond" if wanted.name is None else "sessiond@"
    rendered = {
        f"{template}.{kind}": _unit(wanted, f"{template}.{kind}") for kind in ("socket", "service")
    }
    for path, lines in _drop_ins(wanted).items():
        rendered[path] = MARK + lines
    return rendered


def _unit(wanted: Wanted, name: str) -> str:
    text = (sources() / wanted.scope.value / name).read_text(encoding="utf-8")
    text = text.replace(PACKAGED_PROGRAM, quoted(wanted.program))
    if wanted.name is None:
        if wanted.database is not None:
            text = _set(text, "SESSIOND_DATABASE", wanted.database)
        if wanted.socket is not None:
            text = re.sub(r"(?m)^ListenStream=.*$", lambda _: f"ListenStream={wanted.socket}", text)
    return MARK + text


def _drop_ins(wanted: Wanted) -> dict[str, str]:
    found = {}
    if wanted.metrics is not None:
        source = (sources() / wanted.scope.value / "metrics.conf").read_text(encoding="utf-8")
        found["metrics.conf"] = source.replace(PACKAGED_METRICS, wanted.metrics)
    service = f"{unit_name(wanted.name, 'service')}.d"
    drop_ins = {f"{service}/{name}": text for name, text in found.items()}
    if wanted.name is None:
        return drop_ins
    if wanted.database is not None:
        assignment = quoted(f"SESSIOND_DATABASE={wanted.database}")
        drop_ins[f"{service}/database.conf"] = f"[Service]\nEnvironment={assignment}\n"
    if wanted.socket is not None:
        folder = f"{unit_name(wanted.name, 'socket')}.d"
        # An empty value takes back the template's.
        drop_ins[f"{folder}/socket.conf"] = (
            f"[Socket]\nListenStream=\nListenStream={wanted.socket}\n"
        )
    return drop_ins


def _set(text: str, variable: str, value: str) -> str:
    """``text`` with another value of one of its environment variables."""
    assignment = quoted(f"{variable}={value}")
    return re.sub(rf"(?<=[= ]){variable}=\S+", lambda _: assignment, text, count=1)


def quoted(word: str) -> str:
    """A word as it stands in a unit's command line or assignment: specifiers and blanks kept."""
    text = word.replace("%", "%%")
    if re.search(r"[\s\"'\\$;]", text) is None:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def system_files() -> Mapping[str, str]:
    """What the system's units need besides: path from the root to content."""
    return {
        "etc/sysusers.d/sessiond.conf": MARK + _source("sysusers.conf"),
        "etc/tmpfiles.d/sessiond.conf": MARK + _source("tmpfiles.conf"),
    }


def _source(name: str) -> str:
    return (sources() / name).read_text(encoding="utf-8")


def unit_folder(scope: Scope, environ: Mapping[str, str], home: str) -> str:
    """Where an administrator's or a user's own units lie."""
    if scope is Scope.SYSTEM:
        return "/etc/systemd/system"
    return os.path.join(environ.get("XDG_CONFIG_HOME") or f"{home}/.config", "systemd", "user")
