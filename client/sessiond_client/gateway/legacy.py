"""``sessions.json``: where the map of session keys was kept before, and its mirror now.

The file is one object, session key to entry. What it held before sessiond is copied once and
imported from the copy; afterwards the file is only written, for older tools to read.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sessiond_client.gateway import _fields, atomic_file
from sessiond_client.gateway.entry import SessionEntry

log = logging.getLogger(__name__)

MIRROR_NAME: Final = "sessions.json"
COPY_NAME: Final = "sessions.json.before-sessiond"
LOCK_NAME: Final = "sessions.json.lock"


@dataclass(frozen=True, slots=True)
class LegacyEntries:
    """What a legacy file held; ``unreadable`` is carried verbatim in the mirror."""

    entries: dict[str, SessionEntry] = field(default_factory=dict)
    unreadable: dict[str, Any] = field(default_factory=dict)


@contextmanager
def mirror_lock(sessions_dir: Path) -> Iterator[None]:
    """Hold the lock under which the gateways of all processes change ``sessions.json``.

    Whoever rewrites the mirror reads the database after taking it: otherwise an older state
    could be written after a newer one. Blocks while another process holds it.
    """
    with atomic_file.held(sessions_dir / LOCK_NAME):
        yield


def load_legacy(sessions_dir: Path) -> LegacyEntries:
    """What ``sessions.json`` held before sessiond; copies the file the first time.

    Later calls read the copy, so that an import that was cut short can be repeated: it only
    adds keys that the database does not have. A file or an entry that cannot be read is named
    in a warning. Does nothing if there is no file.
    """
    copy = sessions_dir / COPY_NAME
    if not copy.exists():
        if not (sessions_dir / MIRROR_NAME).exists():
            return LegacyEntries()
        with mirror_lock(sessions_dir):
            if not copy.exists():
                mirror = sessions_dir / MIRROR_NAME
                mode = mirror.stat().st_mode & 0o777
                atomic_file.replace_file(copy, mirror.read_bytes(), mode=mode)
    return read_legacy(copy)


def read_legacy(path: Path) -> LegacyEntries:
    """The entries of a file like ``sessions.json``; what cannot be read is warned of by name."""
    try:
        data = _fields.json_object(path.read_bytes())
    except ValueError as exc:
        log.warning("%s cannot be read, nothing is imported from it: %s", path, exc)
        return LegacyEntries()
    found = LegacyEntries()
    for key, value in data.items():
        try:
            found.entries[key] = _entry(key, value)
        except ValueError as exc:
            log.warning("%s: entry %r cannot be read, kept as it is: %s", path, key, exc)
            found.unreadable[key] = value
    return found


def write_mirror(
    sessions_dir: Path,
    entries: Mapping[str, SessionEntry],
    unreadable: Mapping[str, Any] | None = None,
) -> None:
    """Replace ``sessions.json`` by these entries; the caller holds ``mirror_lock``.

    ``unreadable`` are values carried as they were found, under keys without an entry. Raises
    ``OSError``, and then the old file stays.
    """
    data = {**(unreadable or {}), **{key: entry.to_dict() for key, entry in entries.items()}}
    # Surrogates that no encoder takes stay escapes; a NaN can only be one that was found.
    text = json.dumps(data, indent=2, ensure_ascii=True)
    atomic_file.replace_file(sessions_dir / MIRROR_NAME, text.encode() + b"\n")


def _entry(key: str, value: object) -> SessionEntry:
    """An entry under its key; the key it holds itself was never looked at by older programs."""
    if value is None:
        raise _fields.refusal("entry", value, "an object")
    return SessionEntry.from_dict({**_fields.mapping(value, "entry"), "session_key": key})
