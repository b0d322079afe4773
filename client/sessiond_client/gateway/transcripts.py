"""Transcripts as JSONL files, one message a line, for people and for older tools."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
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


def append_message(path: Path, message: Mapping[str, Any], *, durable: bool = False) -> None:
    """Add a message at the end of a transcript, which is made if it is not there.

    ``durable`` waits until it is on disk. A line that another process left unfinished is
    ended first, so that this message is not lost with it. Raises ``TypeError`` or
    ``ValueError`` for a message that is not JSON, and then writes nothing.
    """
    line = _line(message)
    with atomic_file.held(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        atomic_file.write_all(descriptor, line)
        if durable:
            os.fsync(descriptor)


def rewrite_messages(path: Path, messages: Iterable[Mapping[str, Any]]) -> None:
    """Replace a transcript, and wait until it is on disk; a failure leaves the old one."""
    data = b"".join(map(_line, messages))
    with atomic_file.held(path):
        atomic_file.replace_file(path, data)


def read_messages(path: Path) -> list[dict[str, Any]]:
    """The messages of a transcript in order; none if there is no such file.

    Lines that are not JSON objects are skipped, each with a warning that names the file and
    the line.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    messages: list[dict[str, Any]] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            messages.append(_fields.json_object(line))
        except ValueError as exc:
            log.warning("%s: line %d cannot be read, skipped: %s", path, number, exc)
    return messages


def _line(message: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        # A lone surrogate has no bytes in UTF-8, but an escape in JSON.
        return json.dumps(message, allow_nan=False).encode() + b"\n"
