"""Transcripts as JSONL files, one message a line, for people and for older tools."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sessiond_client.gateway import _fields, atomic_file

log = logging.getLogger(__name__)


def transcript_path(directory: Path, session_id: str) -> Path:
    """Where the transcript of ``session_id`` lies.

    Raises ``ValueError`` for an id that is empty or contains a path separator, ``..`` or NUL:
    some ids come from outside, and none may lead out of ``directory``.
    """
    if not session_id or any(part in session_id for part in ("/", "\\", "..", "\0")):
        raise ValueError(
            f"session id {session_id!r} cannot name a file, allowed is text without '/', '\\',"
            " '..' and NUL"
        )
    return directory / f"{session_id}.jsonl"


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a transcript, by its number from 1 and its ``key``.

    The key tells a line from every other one that its file has held: it is made of the line's
    place and its bytes, so that two processes that meet the same line give it the same key.
    """

    number: int
    key: str
    message: dict[str, Any]


def encoded(message: Mapping[str, Any]) -> bytes:
    """A message as a line. Raises ``TypeError`` or ``ValueError`` for one that is not JSON."""
    try:
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        # A lone surrogate has no bytes in UTF-8, but an escape in JSON.
        return json.dumps(message, allow_nan=False).encode() + b"\n"


def append_line(path: Path, line: bytes, *, durable: bool = False) -> str:
    """Add a line at the end of a transcript, which is made if it is not there; its key.

    ``durable`` waits until it is on disk. A line that another process left unfinished is
    ended first, so that this message is not lost with it.
    """
    with atomic_file.held(path) as descriptor:
        place = os.fstat(descriptor).st_size
        data = line
        if place and os.pread(descriptor, 1, place - 1) != b"\n":
            place, data = place + 1, b"\n" + line
        atomic_file.write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    return _key(place, line.rstrip(b"\n"))


def rewrite_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Replace a transcript, and wait until it is on disk; a failure leaves the old one."""
    data = b"".join(lines)
    with atomic_file.held(path):
        atomic_file.replace_file(path, data)


def read_lines(path: Path) -> list[Line]:
    """The messages of a transcript in order; none if there is no such file.

    Lines that are not JSON objects are skipped, each with a warning that names the file and
    the line.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    lines: list[Line] = []
    place = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            try:
                lines.append(Line(number, _key(place, line), _fields.json_object(line)))
            except ValueError as exc:
                log.warning("%s: line %d cannot be read, skipped: %s", path, number, exc)
        place += len(line) + 1
    return lines


def _key(place: int, line: bytes) -> str:
    return f"jsonl:{place}:{blake2b(line, digest_size=8).hexdigest()}"
