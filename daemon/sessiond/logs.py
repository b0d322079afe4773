"""Logs: text for people, JSON by option, priorities for the journal.

Facts go into ``extra``: ``log.warning("slow request", extra={"seconds": 2.5})`` becomes
``slow request seconds=2.5`` for people and a field of its own in JSON.
"""

import json
import logging
import logging.handlers
import os
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, TextIO

# The journal's priorities, from syslog(3), from the highest level down.
_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
_OWN_FIELDS: Final = frozenset(
    {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}
)
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES.update({ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"})


def goes_to_journal(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Whether the stream is the one that the journal reads (``JOURNAL_STREAM``)."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller has added to a record."""
    return {name: value for name, value in record.__dict__.items() if name not in _OWN_FIELDS}


def _priority(level: int) -> str:
    return f"<{next(number for least, number in _PRIORITIES if level >= least)}>"


def _plain(text: str) -> str:
    """Text that stays on one line and moves no cursor, whoever has chosen it."""
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


def _word(value: Any) -> str:
    """A value after ``name=``: quoted where it would not be read as one word."""
    text = _plain(f"{value:.6g}" if isinstance(value, float) else str(value))
    if text and not any(character in ' "=' for character in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class TextFormat(logging.Formatter):
    """One line for people; in the journal, which has its own clock, a priority instead."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, an indented traceback after it if there is one."""
        facts = "".join(f" {name}={_word(value)}" for name, value in extras(record).items())
        lines = [_plain(record.getMessage()) + facts]
        if record.exc_info:
            lines += [f"  {_plain(line)}" for line in _traceback(self, record)]
        if self._journal:
            # Each line is an entry of its own there.
            return "\n".join(_priority(record.levelno) + line for line in lines)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = f"{stamp}.{int(record.msecs):03} {record.levelname.lower():8} "
        return head + "\n".join(lines)


class JsonFormat(logging.Formatter):
    """One JSON object a line; in the journal with a priority before it, which it takes off."""

    def __init__(self, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON: ``time`` in Unix seconds, ``level``, ``logger``, ``message``,
        what the caller has added, and ``error`` with a traceback."""
        fields = {
            **extras(record),
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = "\n".join(_traceback(self, record))
        text = json.dumps(fields, ensure_ascii=False, default=str)
        line = text.encode("utf-8", "backslashreplace").decode()
        return _priority(record.levelno) + line if self._journal else line


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    assert record.exc_info is not None
    return formatter.formatException(record.exc_info).splitlines()


def start(level: str, form: str, environ: Mapping[str, str], path: str | None = None) -> None:
    """Send everything to standard error, or to a file, in the form that is wanted.

    A file is made for its owner alone and opened anew when somebody has moved it away. Errors
    that nobody caught are logged, too. May be called again. Raises ``OSError`` if the file
    cannot be opened.
    """
    handler = _stream() if path is None else _file(path)
    journal = path is None and goes_to_journal(environ, sys.stderr)
    handler.setFormatter(JsonFormat(journal) if form == "json" else TextFormat(journal))
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [handler]
    for old in before:
        old.close()
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel("WARNING")
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _stream() -> logging.Handler:
    return logging.StreamHandler(sys.stderr)


def _file(path: str) -> logging.Handler:
    # The handler would make it readable for everybody, and titles of sessions may be in it.
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return logging.handlers.WatchedFileHandler(path, encoding="utf-8")


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("sessiond").critical("uncaught error", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is None or issubclass(caught.exc_type, SystemExit):
        return
    name = caught.thread.name if caught.thread is not None else "?"
    logging.getLogger("sessiond").critical(
        "uncaught error in thread %s",
        name,
        exc_info=(caught.exc_type, caught.exc_value, caught.exc_traceback),
    )
