"""Judging a database file by its schema: what is there, what is missing, whose index it is.

Other programs write the same file and may migrate it while the daemon runs. So the question is
asked when the file is opened and again inside every transaction that finds another
``PRAGMA schema_version``; :func:`look` takes a fraction of a millisecond.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import apsw
import msgspec

from sessiond.sqlite.ask import rows as rows_of
from sessiond.sqlite.ask import value
from sessiond_protocol import schema


class Mode(StrEnum):
    """Who keeps the search index of this file.

    ``OURS``: the index and the triggers on ``messages`` and ``sessions`` are exactly ours; the
    write connection runs without triggers and maintains the index itself. ``FOREIGN``: another
    program's; triggers stay enabled and do all of it. ``INDEX_MISSING``: the index or some of
    its triggers are gone and nothing foreign is in the way; messages are stored without
    triggers and without index statements until it has been put back.
    """

    OURS = "ours"
    FOREIGN = "foreign"
    INDEX_MISSING = "index_missing"


class Part(StrEnum):
    """A named object of the schema as it was found."""

    OURS = "ours"
    FOREIGN = "foreign"
    MISSING = "missing"


class SchemaRow(NamedTuple):
    """A row of ``sqlite_schema``: ``kind`` is its ``type`` column."""

    kind: str
    name: str
    table: str
    sql: str | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a schema is, by :func:`judge`.

    ``version`` is the highest row of ``schema_version``, None without one. ``tables`` are the
    names of all tables but SQLite's own, in lower case. Missing columns are named
    ``table.column``; those of a missing table are not listed. ``fts`` says what
    ``messages_fts`` is; ``missing_triggers`` are those of its three that are absent by name,
    ``foreign_triggers`` every other trigger on ``messages`` or ``sessions`` and those of our
    names with another text. ``missing_indexes`` and ``missing_sides`` are names of the base
    format and of sessiond's own; ``former_indexes`` are there and only earlier versions of
    sessiond kept them. ``has_active``: ``messages.active`` exists, and rows with 0 are hidden.
    """

    mode: Mode
    version: int | None
    tables: frozenset[str]
    missing_tables: tuple[str, ...]
    missing_columns: tuple[str, ...]
    fts: Part
    missing_triggers: tuple[str, ...]
    foreign_triggers: tuple[str, ...]
    missing_indexes: tuple[str, ...]
    missing_sides: tuple[str, ...]
    former_indexes: tuple[str, ...]
    has_active: bool
    is_empty: bool

    @property
    def is_newer(self) -> bool:
        """Made by a program that knows a later version of the format."""
        return self.version is not None and self.version > schema.SCHEMA_VERSION

    @property
    def index_is_followed(self) -> bool:
        """Every change of a message reaches ``messages_fts``, by us or by triggers."""
        return self.fts is not Part.MISSING and not self.missing_triggers


_TOKEN: Final = re.compile(
    r"""
    (?P<blank>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*"|\[[^\]]*\]|`(?:[^`]|``)*`)
    | (?P<word>[\w$]+)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN: Final = re.compile(r"[\w$]+")


@lru_cache(maxsize=512)
def normalised(sql: str) -> tuple[str, ...]:
    """The tokens of a ``CREATE`` statement, so that equal statements compare equal.

    Blanks, comments, the case of words, quotes around plain names, ``IF NOT EXISTS``,
    ``FOR EACH ROW`` (SQLite's only kind) and a final semicolon do not count. Text in single
    quotes counts as it is, except in virtual tables, whose arguments may be quoted either way.
    """
    tokens: list[str] = []
    for match in _TOKEN.finditer(sql):
        kind, text = match.lastgroup, match[0]
        if kind == "quoted" or (kind == "string" and tokens[:2] == ["create", "virtual"]):
            inner = text[1:-1]
            tokens.append(inner.lower() if _PLAIN.fullmatch(inner) else text)
        elif kind != "blank":
            tokens.append(text if kind == "string" else text.lower())
    while tokens and tokens[-1] == ";":
        tokens.pop()
    for phrase in (("if", "not", "exists"), ("for", "each", "row")):
        _drop(tokens, phrase)
    return tuple(tokens)


def _drop(tokens: list[str], phrase: tuple[str, str, str]) -> None:
    for start in range(len(tokens) - 2):
        if tuple(tokens[start : start + 3]) == phrase:
            del tokens[start : start + 3]
            return


_FIRST_TABLE: Final = ("table", "schema_version")
_FTS_NAME: Final = "messages_fts"
_OUR_FTS: Final = normalised(schema.FTS_TABLE)
_OUR_TRIGGERS: Final = {name: normalised(sql) for name, sql in schema.FTS_TRIGGERS.items()}
_BASE: Final[Mapping[str, tuple[str, ...]]] = {
    "sessions": schema.SESSION_COLUMN_NAMES,
    "messages": schema.MESSAGE_COLUMN_NAMES,
}


def judge(
    rows: Iterable[SchemaRow], columns: Mapping[str, Iterable[str]], version: int | None
) -> Verdict:
    """Judge a schema from its rows, the columns of ``sessions`` and ``messages``, its version."""
    found = {(row.kind, row.name.lower()): row for row in rows}
    tables = frozenset(name for kind, name in found if kind == "table" and not _internal(name))
    present = {table: {column.lower() for column in columns.get(table, ())} for table in _BASE}
    fts = _fts_part(found)
    foreign_triggers = tuple(_foreign_triggers(found.values()))
    missing_triggers = tuple(name for name in _OUR_TRIGGERS if ("trigger", name) not in found)
    return Verdict(
        mode=_mode(fts, missing_triggers, foreign_triggers),
        version=version,
        tables=tables,
        missing_tables=tuple(
            name for name in ("schema_version", "sessions", "messages") if name not in tables
        ),
        missing_columns=tuple(
            f"{table}.{column}"
            for table, names in _BASE.items()
            if table in tables
            for column in names
            if column not in present[table]
        ),
        fts=fts,
        missing_triggers=missing_triggers,
        foreign_triggers=foreign_triggers,
        missing_indexes=tuple(name for name in schema.INDEXES if ("index", name) not in found),
        missing_sides=(
            *(name for name in schema.SIDE_TABLES if name not in tables),
            *(name for name in schema.SIDE_INDEXES if ("index", name) not in found),
        ),
        former_indexes=tuple(name for name in schema.FORMER_INDEXES if ("index", name) in found),
        has_active="active" in present["messages"],
        is_empty=version is None and all(_beginning(row) for row in found.values()),
    )


def _beginning(row: SchemaRow) -> bool:
    return _internal(row.name.lower()) or (row.kind, row.name.lower()) == _FIRST_TABLE


def _internal(name: str) -> bool:
    return name.startswith("sqlite_")


def _fts_part(found: Mapping[tuple[str, str], SchemaRow]) -> Part:
    row = found.get(("table", _FTS_NAME)) or found.get(("view", _FTS_NAME))
    if row is None:
        return Part.MISSING
    return Part.OURS if normalised(row.sql or "") == _OUR_FTS else Part.FOREIGN


def _foreign_triggers(rows: Iterable[SchemaRow]) -> Iterable[str]:
    for row in rows:
        if row.kind == "trigger" and row.table.lower() in _BASE:
            ours = _OUR_TRIGGERS.get(row.name.lower())
            if ours is None or normalised(row.sql or "") != ours:
                yield row.name


def _mode(fts: Part, missing: tuple[str, ...], foreign: tuple[str, ...]) -> Mode:
    if foreign or fts is Part.FOREIGN:
        return Mode.FOREIGN
    return Mode.INDEX_MISSING if missing or fts is Part.MISSING else Mode.OURS


def look(connection: apsw.Connection) -> Verdict:
    """Read the schema over ``connection`` and judge it, inside its transaction if it has one."""
    rows = [
        SchemaRow(*row)
        for row in rows_of(connection, "SELECT type, name, tbl_name, sql FROM sqlite_schema")
    ]
    columns = {
        table: [row[1] for row in rows_of(connection, f"PRAGMA table_xinfo('{table}')")]
        for table in _BASE
    }
    has_version = any(row.kind == "table" and row.name.lower() == "schema_version" for row in rows)
    return judge(rows, columns, _version(connection) if has_version else None)


def _version(connection: apsw.Connection) -> int | None:
    try:
        found = value(connection, "SELECT max(version) FROM schema_version")
    except apsw.SQLError:
        return None  # a table of this name without the column: somebody else's
    return found if isinstance(found, int) else None


def schema_cookie(connection: apsw.Connection) -> int:
    """``PRAGMA schema_version``: another number means that :func:`look` must be asked again."""
    cookie: int = value(connection, "PRAGMA schema_version")
    return cookie
