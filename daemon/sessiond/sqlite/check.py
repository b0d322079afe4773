"""Is everything in the file what it should be? Counters, indexes, side tables, the file itself.

FTS5 has a check of its own, but it needs the write lock, and SQLite's ``integrity_check`` does
not compare an external-content index with its content. Here a second index is made of the
content, in a temporary table, and the two are compared term by term. Meant for a copy of the
database, where it disturbs nobody; it runs on any connection and changes nothing in the file.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Final

import apsw
import msgspec

from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.disorder import disordered
from sessiond.sqlite.index_comparison import INDEXES, compare_index
from sessiond.sqlite.judge import Part, Verdict, look
from sessiond.sqlite.mending import compare, mend_tables
from sessiond.sqlite.slices import HIGHEST, next_range

MOST_FINDINGS: Final = 100
_SLICE: Final = 4e6

Progress = Callable[[str], None]


class Kind(StrEnum):
    """What a finding is about."""

    FILE = "file"
    FOREIGN_KEY = "foreign key"
    OTHER_INDEX = "another program's index"
    COUNTER = "counter"
    INDEX = "index"
    PAIRS = "pairs"
    PAIR_INDEX = "pair index"
    CONTENT = "content"
    KEYS = "keys"
    ORDER = "order"
    SEQUENCE = "sequence"


# What is made of other data, and can therefore be made again.
DERIVED: Final = frozenset(Kind) - {Kind.FILE, Kind.FOREIGN_KEY, Kind.OTHER_INDEX}


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be, in words for a person."""

    kind: Kind
    detail: str


class Report(msgspec.Struct):
    """What was found; ``counts`` has the findings of a kind also beyond those that are listed.

    ``skipped`` says what was not looked at, and why.
    """

    findings: list[Finding] = []
    counts: dict[Kind, int] = {}
    skipped: list[str] = []

    @property
    def sound(self) -> bool:
        """Nothing was found."""
        return not self.counts

    def add(self, kind: Kind, detail: str) -> None:
        """Note a finding."""
        count = self.counts[kind] = self.counts.get(kind, 0) + 1
        if count <= MOST_FINDINGS:
            self.findings.append(Finding(kind, detail))


def check(connection: apsw.Connection, progress: Progress = lambda _part: None) -> Report:
    """Everything; ``progress`` is called with the name of each part, again and again.

    Other programs may write meanwhile only if ``connection`` has a read transaction open.
    """
    report = Report()
    verdict = look(connection)
    for name, part in (
        ("file", _check_file),
        ("foreign keys", _check_foreign_keys),
        ("counters", _check_counters),
        ("sequence", _check_sequence),
        ("side tables", _check_sides),
        ("indexes", _check_indexes),
    ):
        progress(name)
        try:
            part(connection, verdict, report, lambda name=name: progress(name))  # type: ignore[misc]
        except apsw.CorruptError as error:
            report.add(Kind.FILE, f"{name} cannot be read: {error}")
        except apsw.SQLError as error:
            report.skipped.append(f"{name}: {error}")
    return report


Beat = Callable[[], None]


def _check_file(connection: apsw.Connection, _v: Verdict, report: Report, _beat: Beat) -> None:
    for (text,) in rows(connection, f"PRAGMA integrity_check({MOST_FINDINGS})"):
        if text != "ok":
            report.add(kind_of(text), text)


def kind_of(text: str) -> Kind:
    """What a line of SQLite's integrity check is about."""
    if "fts5" not in text.lower():
        return Kind.FILE
    names = set(re.findall(r"\w+", text))
    if "messages_fts" in names:
        return Kind.INDEX
    return Kind.PAIR_INDEX if "sessiond_cjk_fts" in names else Kind.OTHER_INDEX


def _check_foreign_keys(
    connection: apsw.Connection, _v: Verdict, report: Report, _beat: Beat
) -> None:
    for table, rowid, parent, _ in rows(connection, "PRAGMA foreign_key_check"):
        report.add(Kind.FOREIGN_KEY, f"row {rowid} of {table} has no row in {parent}")


# --- counters ----------------------------------------------------------------------------------

# A list of calls counts each, anything else that is stored counts one.
_CALLS: Final = (
    "CASE WHEN tool_calls IS NULL THEN 0 WHEN NOT json_valid(tool_calls) THEN 1"
    " WHEN json_type(tool_calls) = 'array' THEN json_array_length(tool_calls) ELSE 1 END"
)
_COUNTED: Final = (
    "SELECT s.id, coalesce(s.message_count, 0), coalesce(s.tool_call_count, 0),"
    " coalesce(c.messages, 0), coalesce(c.calls, 0) FROM sessions AS s LEFT JOIN"
    f" (SELECT session_id, count(*) AS messages, sum({_CALLS}) AS calls"
    " FROM messages GROUP BY session_id) AS c ON c.session_id = s.id"
    " WHERE coalesce(s.message_count, 0) <> coalesce(c.messages, 0)"
    " OR coalesce(s.tool_call_count, 0) <> coalesce(c.calls, 0)"
)


def _check_counters(
    connection: apsw.Connection, verdict: Verdict, report: Report, _beat: Beat
) -> None:
    if verdict.has_active:
        report.skipped.append("counters: a newer program counts rewound messages its own way")
        return
    for session, messages, calls, messages_found, calls_found in rows(connection, _COUNTED):
        if messages != messages_found:
            report.add(
                Kind.COUNTER,
                f"session {session!r}: message_count is {messages}, there are {messages_found}",
            )
        if calls != calls_found:
            report.add(
                Kind.COUNTER,
                f"session {session!r}: tool_call_count is {calls}, there are {calls_found}",
            )


def _check_sequence(connection: apsw.Connection, _v: Verdict, report: Report, _beat: Beat) -> None:
    for sequence, highest in rows(connection, _SEQUENCE):
        report.add(
            Kind.SEQUENCE, f"the next message id follows {sequence}, but {highest} was given"
        )


_SEQUENCE: Final = (
    "SELECT coalesce(seq, 0), highest FROM (SELECT max(id) AS highest FROM messages)"
    " LEFT JOIN sqlite_sequence ON name = 'messages' WHERE highest > coalesce(seq, 0)"
)


# --- side tables and indexes -------------------------------------------------------------------


def _check_sides(connection: apsw.Connection, _v: Verdict, report: Report, beat: Beat) -> None:
    cursor: int = value(connection, "SELECT cjk_cursor FROM sessiond_meta WHERE id = 1")
    for low, high in _ranges(connection):
        beat()
        found = compare(connection, low, high)
        for each in found.strays:
            what = "other text" if each in found.missing else "no message"
            report.add(Kind.PAIRS, f"message {each}: the row in sessiond_cjk has {what}")
        for each in found.missing:
            # Above the cursor nothing is promised yet.
            if each <= cursor and each not in found.strays:
                report.add(Kind.PAIRS, f"message {each} has no row in sessiond_cjk")
        for each in found.content:
            report.add(Kind.CONTENT, f"message {each}: structured content of other text")
        for session, key in found.keys:
            report.add(Kind.KEYS, f"key {key!r} of session {session!r} has no message")
        for session in disordered(connection, low, min(high, cursor)):
            report.add(Kind.ORDER, f"session {session!r} goes back in time, which is not noted")


def _ranges(connection: apsw.Connection) -> Iterator[tuple[int, int]]:
    low = -HIGHEST - 1
    while True:
        part = next_range(connection, low, _SLICE)
        yield low, HIGHEST if part.last else part.high
        if part.last:
            return
        low = part.high


def _check_indexes(
    connection: apsw.Connection, verdict: Verdict, report: Report, beat: Beat
) -> None:
    for index in INDEXES:
        kind = Kind.INDEX if index.name == "messages_fts" else Kind.PAIR_INDEX
        if kind is Kind.INDEX and verdict.fts is not Part.OURS:
            report.skipped.append(f"messages_fts: {verdict.fts.value}")
            continue
        try:
            for detail in compare_index(connection, index, beat):
                report.add(kind, detail)
        except apsw.CorruptError as error:
            report.add(kind, f"{index.name} cannot be read: {error}")


# --- repair ------------------------------------------------------------------------------------


def repair(connection: apsw.Connection, report: Report, *, rebuild: bool = True) -> list[Kind]:
    """Mend what was found and can be made again, in one transaction; the kinds it mended.

    Looks again first: the report may be of a copy. Without ``rebuild`` the index is only marked,
    for a daemon that rebuilds it itself. A daemon must :meth:`Store.reload` afterwards.
    ``apsw.BusyError``: another program has the write lock.
    """
    kinds = [kind for kind in Kind if kind in report.counts and kind in DERIVED]
    if not kinds:
        return []
    connection.execute("BEGIN IMMEDIATE")
    try:
        verdict = look(connection)
        done = [kind for kind in kinds if _repair_one(connection, kind, verdict, rebuild)]
        connection.execute("UPDATE sessiond_meta SET commits = commits + 1")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return done


def _repair_one(connection: apsw.Connection, kind: Kind, verdict: Verdict, rebuild: bool) -> bool:
    if kind is Kind.COUNTER:
        if verdict.has_active:
            return False
        connection.executemany(
            "UPDATE sessions SET message_count = ?, tool_call_count = ? WHERE id = ?",
            [(found[3], found[4], found[0]) for found in rows(connection, _COUNTED)],
        )
    elif kind is Kind.SEQUENCE:
        _raise_sequence(connection, rows(connection, _SEQUENCE))
    elif kind is Kind.INDEX:
        if verdict.fts is not Part.OURS:
            return False
        _rebuild(connection, rebuild)
    elif kind in (Kind.PAIRS, Kind.PAIR_INDEX):
        # From the first message on; until the daemon has filled it, searches judge the messages.
        connection.execute("DELETE FROM sessiond_cjk")
        connection.execute("INSERT INTO sessiond_cjk_fts (sessiond_cjk_fts) VALUES ('rebuild')")
        connection.execute("UPDATE sessiond_meta SET cjk_cursor = 0")
    else:
        for low, high in _ranges(connection):
            mend_tables(connection, compare(connection, low, high))
    return True


def _rebuild(connection: apsw.Connection, at_once: bool) -> None:
    if at_once:
        connection.execute("INSERT INTO messages_fts (messages_fts) VALUES ('rebuild')")
        connection.execute("UPDATE sessiond_meta SET index_state = '', rebuild_cursor = NULL")
    else:
        connection.execute("UPDATE sessiond_meta SET index_state = 'found different by a check'")


def _raise_sequence(connection: apsw.Connection, found: Sequence[Any]) -> None:
    for _, highest in found:
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'messages'")
        connection.execute(
            "INSERT INTO sqlite_sequence (name, seq) VALUES ('messages', ?)", (highest,)
        )
