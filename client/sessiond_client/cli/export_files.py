"""Where an export goes: lines in a stream, a file that is whole, a directory of transcripts."""

import contextlib
import errno
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click

from sessiond_client import SessionDB
from sessiond_client.cli import output
from sessiond_client.cli.connect import ask
from sessiond_client.cli.progress import Progress
from sessiond_client.gateway.legacy import mirror_lock, write_mirror
from sessiond_client.gateway.placing import entry_of
from sessiond_client.gateway.transcripts import transcript_path
from sessiond_protocol.requests.route import Route, RouteList

Row = dict[str, Any]

_CHAT: tuple[str, ...] = ("tool_call_id", "tool_calls", "tool_name", "finish_reason", "token_count")
_REASONING: tuple[str, ...] = ("reasoning", "reasoning_details", "codex_reasoning_items")


def exporting(db: SessionDB, ids: list[str], source: str | None) -> Iterator[Row]:
    """The sessions that are wanted, one by one, with their messages."""
    if not ids:
        yield from db.iter_export(source)
    for session_id in ids:
        session = db.export_session(session_id)
        if session is not None:
            yield session


def counted(sessions: Iterator[Row], progress: Progress) -> Iterator[Row]:
    """The same sessions, counted as they pass."""
    for session in sessions:
        yield session
        progress.advance(1)


def write_lines(sessions: Iterator[Row], stream: TextIO) -> int:
    """One session a line; how many there were."""
    number = 0
    for number, session in enumerate(sessions, start=1):  # noqa: B007 (returned)
        stream.write(output.json_text(session, stream) + "\n")
    return number


@contextlib.contextmanager
def written_whole(target: Path) -> Iterator[TextIO]:
    """A file that is whole or as it was before; a pipe or a device is written to as it is.

    A symbolic link stays one: what it leads to is written.
    """
    real = Path(os.path.realpath(target))
    if real.is_file() or not real.exists():
        with written_aside(real) as stream:
            yield stream
        return
    with real.open("w", encoding="utf-8") as stream:
        yield stream


@contextlib.contextmanager
def written_aside(target: Path) -> Iterator[TextIO]:
    """A file that takes the place of ``target`` once it is complete and on disk."""
    aside = target.with_name(f"{target.name}.part")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_directory(db: SessionDB, sessions: Iterator[Row], directory: Path, *, whole: bool) -> int:
    """A transcript for each session; with a ``whole`` export what session keys point at, too.

    Sessions whose id cannot name a file are left out, which is said; how many were written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = 0
    for session in sessions:
        try:
            write_transcript(directory, session)
        except ValueError as error:
            click.echo(f"sessionctl: left out: {error}", err=True)
        else:
            written += 1
    if whole:
        entries = {route.session_key: entry_of(route) for route in routes(db)}
        if entries:
            with mirror_lock(directory):
                write_mirror(directory, entries)
    return written


def write_transcript(directory: Path, session: Row) -> None:
    """One session's transcript; ``ValueError`` if its id cannot name a file."""
    path = transcript_path(directory, str(session["id"]))
    try:
        with written_aside(path) as stream:
            for message in session["messages"]:
                stream.write(output.json_text(chat_line(message), stream) + "\n")
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ValueError(
            f"session id of {len(os.fsencode(path.stem))} bytes is too long for a file's name:"
            f" {path.stem[:40]}…"
        ) from None


def chat_line(message: Row) -> Row:
    """A message as gateways write it to a transcript: a chat dict with its time."""
    line: Row = {"role": message["role"], "content": message["content"]}
    names = _CHAT + _REASONING if message["role"] == "assistant" else _CHAT
    line.update((name, message[name]) for name in names if message[name])
    line["timestamp"] = _iso(message["timestamp"])
    return line


def _iso(seconds: Any) -> Any:
    """ISO 8601 in UTC; what is no time is left as it is."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return seconds


def routes(db: SessionDB) -> Iterator[Route]:
    """What every session key points at, in order of the key."""
    after = ""
    while page := ask(db, RouteList(after_key=after)):
        yield from page
        after = page[-1].session_key
