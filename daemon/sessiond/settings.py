"""The daemon's settings, declared once.

Flags, ``SESSIOND_*`` variables, the keys of the TOML file and the table in the documentation
all derive from the fields of :class:`Settings`.
"""

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

KIB: Final = 1024
MIB: Final = 1024 * 1024


class BadSetting(ValueError):
    """A value that is not allowed; the text names the setting, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known of a setting besides its default: help, kind, bounds, reload."""

    help: str
    kind: str  # text, path, int, bytes, seconds, choice, flag, list
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    reload: bool = False


def _setting(default: Any, help_text: str, kind: str, **rest: Any) -> Any:
    return field(default=default, metadata={"spec": Spec(help_text, kind, **rest)})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of the daemon with its default. Sizes are bytes, times are seconds."""

    database: str | None = _setting(None, "the database file", "path")
    socket: str | None = _setting(None, "where to listen", "path")
    socket_group: str | None = _setting(None, "a group that may connect, too", "text")
    allow_uids: tuple[int, ...] = _setting((), "user ids that may connect, too", "list")
    allow_gids: tuple[int, ...] = _setting((), "group ids that may connect, too", "list")
    durability: str = _setting(
        "full",
        "full: an answer survives a power cut; normal: it survives a crash of the process",
        "choice",
        choices=("full", "normal"),
    )
    batch_max_requests: int = _setting(
        1000, "requests in one transaction", "int", low=1, high=100_000
    )
    batch_max_bytes: int = _setting(
        8 * MIB, "bytes of requests in one transaction", "bytes", low=KIB, high=1024 * MIB
    )
    batch_max_delay: float = _setting(
        0.0, "how long a transaction waits for others that write", "seconds", low=0, high=1
    )
    batch_siblings: int = _setting(
        3, "how many connections must be writing before a transaction waits", "int", low=2
    )
    inbox_max_requests: int = _setting(20_000, "requests waiting for the writer", "int", low=10)
    inbox_max_bytes: int = _setting(64 * MIB, "their bytes", "bytes", low=MIB)
    connection_max_requests: int = _setting(
        5000, "unanswered requests of one connection", "int", low=1
    )
    connection_max_bytes: int = _setting(32 * MIB, "their bytes", "bytes", low=64 * KIB)
    max_connections: int = _setting(1000, "connections at once", "int", low=1, high=60_000)
    max_request_bytes: int = _setting(
        16 * MIB, "bytes of one request", "bytes", low=KIB, high=256 * MIB
    )
    answer_max_bytes: int = _setting(
        8 * MIB, "unsent answers of one connection before it is read no more", "bytes", low=64 * KIB
    )
    answer_stall: float = _setting(
        30.0, "how long a peer over that bound may take nothing before it is cut off", "seconds"
    )
    frame_stall: float = _setting(
        10.0, "how long half a message may stay as it is before the connection ends", "seconds"
    )
    thread_decode_bytes: int = _setting(
        256 * KIB, "requests over this size are decoded on a thread", "bytes", low=KIB
    )
    pool_size: int = _setting(4, "threads that answer reads", "int", low=1, high=64)
    read_timeout: float = _setting(
        30.0, "time for a request that does not name its own", "seconds", low=0.1, high=1800
    )
    lock_timeout: float = _setting(
        20.0, "how long to wait for another program's write lock", "seconds", low=0, high=600
    )
    start_timeout: float = _setting(
        30.0, "how long to wait for another daemon that is just leaving", "seconds", low=0
    )
    drain_timeout: float = _setting(
        30.0, "how long stopping may take", "seconds", low=0.1, reload=True
    )
    idle_exit: float = _setting(
        0.0, "leave after this long without a connection; 0: never", "seconds", low=0, reload=True
    )
    cache_size: int = _setting(64 * MIB, "the writer's page cache", "bytes", low=MIB)
    log_level: str = _setting(
        "info", "what is logged", "choice", choices=("debug", "info", "warning", "error"),
        reload=True,
    )  # fmt: skip
    log_format: str = _setting("text", "how it is logged", "choice", choices=("text", "json"))
    log_file: str | None = _setting(None, "log to this file, not to standard error", "path")
    allow_network_fs: bool = _setting(
        False, "serve a database on a network file system, whose locks may lie", "flag"
    )


def specs() -> dict[str, tuple[Spec, Any]]:
    """Every setting by name: its spec and its default."""
    return {
        each.name: (each.metadata["spec"], each.default) for each in dataclasses.fields(Settings)
    }


def shown(spec: Spec, value: Any) -> str:
    """A value as people write it: with its unit."""
    if value is None or value == ():
        return "none"
    if spec.kind == "bytes":
        for unit, size in (("MiB", MIB), ("KiB", KIB)):
            if value % size == 0:
                return f"{value // size}{unit}"
    if spec.kind == "seconds":
        return f"{value:g}s"
    if spec.kind == "flag":
        return "yes" if value else "no"
    return str(value)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"SESSIOND_{name.upper()}"


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: bytes | None = None, path: str = ""
) -> tuple[Settings, dict[str, str]]:
    """The effective settings, and where each came from.

    Flags win over ``SESSIOND_*``, those over the file, that over the defaults. Raises
    :class:`BadSetting`.
    """
    chosen: dict[str, Any] = {}
    origins = dict.fromkeys(specs(), "default")
    for name, value in _of_file(file, path).items():
        chosen[name] = parse(name, value, f"{name} in {path}")
        origins[name] = f"file {path}"
    for name in specs():
        found = environ.get(variable(name))
        if found is not None and found != "":
            chosen[name] = parse(name, found, variable(name))
            origins[name] = f"environment {variable(name)}"
    for name, value in flags.items():
        if value is not None and value != ():
            chosen[name] = parse(name, value, f"--{name.replace('_', '-')}")
            origins[name] = "flag"
    return Settings(**chosen), origins


def _of_file(file: bytes | None, path: str) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = tomllib.loads(file.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} is not TOML: {error}") from error
    for name in values:
        if name not in specs():
            close = difflib.get_close_matches(name, specs(), 1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise BadSetting(f"unknown setting {name!r} in {path}{hint}")
    return values


_UNITS: Final[dict[str, dict[str, float]]] = {
    "bytes": {"": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": 1024 * MIB,
              "gib": 1024 * MIB, "kb": 1000, "mb": 10**6, "gb": 10**9},
    "seconds": {"": 1, "s": 1, "ms": 0.001, "us": 1e-6, "min": 60, "h": 3600, "d": 86_400},
}  # fmt: skip


def parse(name: str, value: Any, where: str) -> Any:
    """A value of a setting, from text or from TOML; ``where`` names it in errors."""
    spec, _ = specs()[name]
    if spec.kind in ("bytes", "seconds"):
        number = _measure(spec, value, where)
        return _bounded(spec, int(number) if spec.kind == "bytes" else number, value, where)
    if spec.kind == "int":
        return _bounded(spec, _integer(value, where), value, where)
    if spec.kind == "list":
        parts = value.replace(",", " ").split() if isinstance(value, str) else list(value)
        return tuple(_integer(part, where) for part in parts)
    if spec.kind == "flag":
        return _truth(value, where)
    if not isinstance(value, str):
        raise BadSetting(f"{where} must be text, {value!r} is not")
    if spec.kind == "choice" and value not in spec.choices:
        raise BadSetting(f"{where} must be one of {', '.join(spec.choices)}, not {value!r}")
    return value


def _integer(value: Any, where: str) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise BadSetting(f"{where} must be a whole number, {value!r} is not") from None


def _measure(spec: Spec, value: Any, where: str) -> float:
    units = _UNITS[spec.kind]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", str(value))
    if match is None or match[2].lower() not in units:
        allowed = ", ".join(unit for unit in units if unit)
        raise BadSetting(f"{where} must be a number of {spec.kind} ({allowed}), {value!r} is not")
    return float(match[1]) * units[match[2].lower()]


def _bounded(spec: Spec, number: Any, value: Any, where: str) -> Any:
    low, high = spec.low, spec.high
    if (low is not None and number < low) or (high is not None and number > high):
        allowed = f"at least {low:g}" if high is None else f"between {low or 0:g} and {high:g}"
        raise BadSetting(f"{where} must be {allowed}, {value!r} is not")
    return number


def _truth(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if str(value).lower() not in words:
        raise BadSetting(f"{where} must be true or false, {value!r} is not")
    return words[str(value).lower()]
