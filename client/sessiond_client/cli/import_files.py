"""Files that an import reads: exports, transcripts, a gateway's directory."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sessiond_client import SessionDB
from sessiond_client.cli import incoming
from sessiond_client.cli.connect import ask
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.importer import Importer
from sessiond_client.cli.lines import Line, read_lines
from sessiond_client.cli.progress import Progress
from sessiond_client.gateway.entry import SessionEntry
from sessiond_client.gateway.legacy import MIRROR_NAME, LegacyEntries, read_legacy
from sessiond_client.gateway.placing import imported
from sessiond_protocol.requests.route import MAX_IMPORTED, RouteImport


def import_path(importer: Importer, db: SessionDB, path: str, warn: Callable[[str], None]) -> None:
    """A directory, an export, or a transcript."""
    if path != "-" and os.path.isdir(path):
        import_directory(importer, db, Path(path), warn)
    elif os.path.basename(path) == MIRROR_NAME:
        import_directory(importer, db, Path(path).parent, warn)
    else:
        import_file(importer, path, warn)


def import_file(importer: Importer, path: str, warn: Callable[[str], None]) -> None:
    """An export, line by line; a transcript is read whole. The first object tells which."""
    size = None if path == "-" else os.stat(path).st_size
    stream = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115 (closed below)
    with stream, Progress(os.path.basename(path), size, in_bytes=True) as progress:
        lines = watched(read_lines(stream), path, warn, progress)
        first = next(lines, None)
        if first is None:
            return
        if "messages" in first:
            for number, value in enumerate(_chain(first, lines), start=1):
                add_export(importer, value, f"{path}: session {number}", warn)
        elif "role" in first and path != "-":
            add_transcript(importer, Path(path).stem, [first, *lines], None, warn)
        else:
            named = "standard input" if path == "-" else path
            raise Refused(
                f"{named} is neither an export (lines with 'id' and 'messages') nor a transcript"
                " (lines with 'role')",
                os.EX_DATAERR,
            )


def _chain(first: dict[str, Any], rest: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from rest


def watched(
    lines: Iterator[Line], path: str, warn: Callable[[str], None], progress: Progress | None
) -> Iterator[dict[str, Any]]:
    """The objects of the lines; the others are warned of by name."""
    for line in lines:
        if progress is not None:
            progress.advance(line.size)
        if line.value is None:
            warn(f"{path}: line {line.number} is skipped, {line.trouble}")
        else:
            yield line.value


def add_export(
    importer: Importer, value: dict[str, Any], where: str, warn: Callable[[str], None]
) -> None:
    """One line of an export."""
    try:
        importer.add(incoming.from_export(value))
    except ValueError as error:
        importer.report.failed += 1
        warn(f"{where} is not imported: {error}")


def add_transcript(
    importer: Importer,
    session_id: str,
    lines: list[dict[str, Any]],
    entry: SessionEntry | None,
    warn: Callable[[str], None],
) -> None:
    """One transcript."""
    try:
        importer.add(incoming.from_transcript(session_id, lines, entry))
    except ValueError as error:
        importer.report.failed += 1
        warn(f"{session_id}.jsonl is not imported: {error}")


def import_directory(
    importer: Importer, db: SessionDB, directory: Path, warn: Callable[[str], None]
) -> None:
    """A gateway's transcripts, and what its ``sessions.json`` says of them."""
    mirror = directory / MIRROR_NAME
    legacy = read_legacy(mirror) if mirror.exists() else LegacyEntries()
    entries = {entry.session_id: entry for entry in legacy.entries.values()}
    files = sorted(directory.glob("*.jsonl"))
    if not files and not entries:
        raise Refused(
            f"{directory} has neither transcripts (*.jsonl) nor a {MIRROR_NAME}", os.EX_NOINPUT
        )
    with Progress(directory.name, len(files)) as progress:
        for file in files:
            with file.open("rb") as stream:
                lines = list(watched(read_lines(stream), str(file), warn, None))
            add_transcript(importer, file.stem, lines, entries.get(file.stem), warn)
            progress.advance(1)
    importer.close()
    importer.report.routes += import_routes(db, legacy)


def import_routes(db: SessionDB, legacy: LegacyEntries) -> int:
    """Take over what session keys point at, where the database has no such key; how many."""
    routes = [imported(key, entry) for key, entry in legacy.entries.items()]
    taken = 0
    for start in range(0, len(routes), MAX_IMPORTED):
        taken += len(ask(db, RouteImport(routes=routes[start : start + MAX_IMPORTED])))
    return taken
