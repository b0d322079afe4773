"""Logs: text for people, JSON by option, priorities for the journal."""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import TextIO

# The journal's priorities, from syslog(3).
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


def goes_to_journal(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Whether the stream is the one that the journal reads (``JOURNAL_STREAM``)."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class TextFormat(logging.Formatter):
    """One line for people; in the journal, which has its own clock, a priority instead."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, a traceback after it if there is one."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if self._journal:
            return f"<{_PRIORITIES.get(record.levelno, 6)}>{text}"
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        return f"{stamp}.{int(record.msecs):03} {record.levelname.lower():8} {text}"


class JsonFormat(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        fields = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def start(level: str, form: str, environ: Mapping[str, str], path: str | None = None) -> None:
    """Send everything to standard error, or to a file, in the form that is wanted."""
    handler = logging.StreamHandler(sys.stderr) if path is None else logging.FileHandler(path)
    journal = path is None and goes_to_journal(environ, sys.stderr)
    handler.setFormatter(JsonFormat() if form == "json" else TextFormat(journal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel("WARNING")
