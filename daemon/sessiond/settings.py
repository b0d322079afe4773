"""The daemon's settings, declared once.

Flags, ``SESSIOND_*`` variables, the keys of the TOML file and the table in the documentation
all derive from the fields of :class:`Settings`.
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sessiond.setting_values import (
    GIB,
    KIB,
    MIB,
    BadSetting,
    Spec,
    host_and_port,
    parse,
    shown,
)

__all__ = [
    "KIB", "MIB", "BadSetting", "Settings", "Spec", "flag", "host_and_port", "load", "shown",
    "specs", "variable",
]  # fmt: skip


def _setting(default: Any, help_text: str, kind: str, **rest: Any) -> Any:
    return field(default=default, metadata={"spec": Spec(help_text, kind, **rest)})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of the daemon with its default. Sizes are bytes, times are seconds."""

    # --- the database and who may use it
    database: str | None = _setting(None, "the database file", "path")
    socket: str | None = _setting(None, "where to listen", "path")
    socket_group: str | None = _setting(None, "a group that may connect, too", "text")
    allow_uids: tuple[int, ...] = _setting((), "user ids that may connect, too", "list")
    allow_gids: tuple[int, ...] = _setting((), "group ids that may connect, too", "list")
    allow_network_fs: bool = _setting(
        False, "serve a database on a network file system, whose locks may lie", "flag"
    )

    # --- transactions
    durability: str = _setting(
        "full",
        "full: an answer survives a power cut; normal: it survives a crash of the process",
        "choice",
        choices=("full", "normal"),
    )
    batch_max_requests: int = _setting(
        2000, "requests in one transaction", "int", low=1, high=100_000
    )
    batch_max_bytes: int = _setting(
        8 * MIB, "bytes of requests in one transaction", "bytes", low=KIB, high=GIB
    )
    batch_max_delay: float = _setting(
        0.0005, "how long a transaction waits for others that write", "seconds", low=0, high=1
    )
    batch_siblings: int = _setting(
        3,
        "how many connections must be writing before a transaction waits",
        "int",
        low=2,
        high=60_000,
    )
    lock_timeout: float = _setting(
        20.0, "how long to wait for another program's write lock", "seconds", low=0, high=600
    )
    cache_size: int = _setting(16 * MIB, "the writer's page cache", "bytes", low=MIB, high=64 * GIB)
    wal_soft_limit: int = _setting(
        64 * MIB,
        "from this size on the log is emptied as soon as its readers let it",
        "bytes",
        low=MIB,
        high=64 * GIB,
    )
    wal_hard_limit: int = _setting(
        GIB,
        "over this size the daemon says every minute who keeps the log from being emptied",
        "bytes",
        low=MIB,
        high=1024 * GIB,
    )

    # --- care
    retention_days: float = _setting(
        0.0,
        "delete sessions that have ended and were started so many days ago; 0: keep them",
        "number",
        low=0,
        high=36_500,
        reload=True,
    )
    retention_sources: tuple[str, ...] = _setting(
        (), "delete only old sessions of these sources; none: of all", "texts", reload=True
    )

    # --- connections
    max_connections: int = _setting(1000, "connections at once", "int", low=1, high=60_000)
    max_request_bytes: int = _setting(
        16 * MIB, "bytes of one request", "bytes", low=KIB, high=256 * MIB
    )
    inbox_max_requests: int = _setting(
        20_000, "requests waiting for the writer", "int", low=10, high=10_000_000
    )
    inbox_max_bytes: int = _setting(
        64 * MIB, "bytes of requests waiting for the writer", "bytes", low=MIB, high=64 * GIB
    )
    connection_max_requests: int = _setting(
        5000, "unanswered requests of one connection", "int", low=1, high=1_000_000
    )
    connection_max_bytes: int = _setting(
        32 * MIB, "bytes of unanswered requests of one connection", "bytes",
        low=64 * KIB, high=16 * GIB,
    )  # fmt: skip
    answer_max_bytes: int = _setting(
        8 * MIB,
        "unsent answers of one connection before it is read no more",
        "bytes",
        low=64 * KIB,
        high=16 * GIB,
    )
    answer_stall: float = _setting(
        30.0,
        "how long a peer over that bound may take nothing before it is cut off",
        "seconds",
        low=1,
        high=3600,
    )
    frame_stall: float = _setting(
        10.0,
        "how long half a message may stay as it is before the connection ends",
        "seconds",
        low=1,
        high=3600,
    )
    thread_decode_bytes: int = _setting(
        256 * KIB, "requests over this size are decoded on a thread", "bytes", low=KIB, high=GIB
    )

    # --- reads
    pool_size: int = _setting(4, "threads that answer reads", "int", low=1, high=64)
    read_timeout: float = _setting(
        30.0, "time for a request that does not name its own", "seconds", low=0.1, high=1800
    )

    # --- starting and stopping
    start_timeout: float = _setting(
        30.0,
        "how long to wait for another daemon that is just leaving",
        "seconds",
        low=0,
        high=3600,
    )
    drain_timeout: float = _setting(
        30.0, "how long stopping may take", "seconds", low=0.1, high=3600, reload=True
    )
    idle_exit: float = _setting(
        0.0, "leave after this long without a connection; 0: never", "seconds",
        low=0, high=366 * 86_400, reload=True,
    )  # fmt: skip

    # --- what the daemon says of itself
    log_level: str = _setting(
        "info", "what is logged", "choice", choices=("debug", "info", "warning", "error"),
        reload=True,
    )  # fmt: skip
    log_format: str = _setting("text", "how it is logged", "choice", choices=("text", "json"))
    log_file: str | None = _setting(None, "log to this file, not to standard error", "path")
    slow_request: float = _setting(
        1.0, "requests that take longer are logged; 0: none", "seconds",
        low=0, high=3600, reload=True,
    )  # fmt: skip
    metrics_listen: str | None = _setting(
        None, "serve metrics over HTTP at this loopback address and port", "address"
    )


def specs() -> dict[str, tuple[Spec, Any]]:
    """Every setting by name: its spec and its default."""
    return {
        each.name: (each.metadata["spec"], each.default) for each in dataclasses.fields(Settings)
    }


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"SESSIOND_{name.upper()}"


def flag(name: str) -> str:
    """The command line's option for a setting."""
    return f"--{name.replace('_', '-')}"


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: bytes | None = None, path: str = ""
) -> tuple[Settings, dict[str, str]]:
    """The effective settings, and where each came from.

    Flags win over ``SESSIOND_*``, those over the file, that over the defaults; a flag that is
    None or empty and a variable that is empty count as not given. An origin is ``default``, a
    flag such as ``--pool-size``, a variable's name, or ``path``. Raises :class:`BadSetting`.
    """
    known = specs()
    chosen: dict[str, Any] = {}
    origins = dict.fromkeys(known, "default")
    for name, value in _of_file(file, path).items():
        chosen[name] = parse(known[name][0], value, f"{name} in {path}")
        origins[name] = path
    for name, (spec, _) in known.items():
        found = environ.get(variable(name))
        if found:
            chosen[name] = parse(spec, found, variable(name))
            origins[name] = variable(name)
    for name, value in flags.items():
        if value is not None and value != ():
            chosen[name] = parse(known[name][0], value, flag(name))
            origins[name] = flag(name)
    settings = Settings(**chosen)
    _check_together(settings)
    return settings, origins


def _of_file(file: bytes | None, path: str) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = tomllib.loads(file.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSetting(f"{path} is not TOML: {error}") from error
    known = specs()
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name.lower().replace("-", "_"), known, 1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise BadSetting(f"unknown setting {name!r} in {path}{hint}")
    return values


def _check_together(settings: Settings) -> None:
    """Refuse pairs that contradict each other."""
    pairs = (
        ("wal_soft_limit", "wal_hard_limit"),
        ("max_request_bytes", "connection_max_bytes"),
        ("max_request_bytes", "inbox_max_bytes"),
    )
    known = specs()
    for less, more in pairs:
        low, high = getattr(settings, less), getattr(settings, more)
        if low > high:
            raise BadSetting(
                f"{less} must be at most {more} {shown(known[more][0], high)},"
                f" {shown(known[less][0], low)} is not"
            )
