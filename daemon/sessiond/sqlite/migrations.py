"""Bringing a file of any older version to the current one, each step all or nothing.

Every step is one transaction that looks at the schema anew: another program may have migrated
the file in the meantime, and a daemon that was killed repeats only what it had not committed.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import apsw
import msgspec

from sessiond.sqlite.ask import beating, rows, size_in_bytes, value
from sessiond.sqlite.disorder import NOTE_ALL
from sessiond.sqlite.judge import Part, Verdict, look
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond.sqlite.unique_titles import make_titles_unique
from sessiond_protocol import schema

logger = logging.getLogger("sessiond.migrations")

Progress = Callable[[str, float], None]
Hook = Callable[[str], None]

# `sessiond_meta.index_state` of a file whose index was put back but does not hold the messages.
REBUILD_NEEDED: Final = "rebuild needed"

# The steps of a plan for a file that has nothing in it yet.
CREATE: Final = ("create",)

COLUMNS_ADDED: Final[Mapping[int, tuple[str, ...]]] = {
    2: ("messages.finish_reason",),
    3: ("sessions.title",),
    4: (),
    5: (
        "sessions.cache_read_tokens",
        "sessions.cache_write_tokens",
        "sessions.reasoning_tokens",
        "sessions.billing_provider",
        "sessions.billing_base_url",
        "sessions.billing_mode",
        "sessions.estimated_cost_usd",
        "sessions.actual_cost_usd",
        "sessions.cost_status",
        "sessions.cost_source",
        "sessions.pricing_version",
    ),
    6: ("messages.reasoning", "messages.reasoning_details", "messages.codex_reasoning_items"),
}
_ADDABLE: Final = frozenset(name for names in COLUMNS_ADDED.values() for name in names)
_COLUMN_TYPES: Final = {
    **{f"sessions.{name}": kind for name, kind in schema.SESSION_COLUMNS},
    **{f"messages.{name}": kind for name, kind in schema.MESSAGE_COLUMNS},
}
_TITLE_INDEX: Final = "idx_sessions_title_unique"
_TITLE_INDEX_VERSION: Final = 4
_OLDEST: Final = 1

# Measured on a laptop's disk: copying and checking a byte, reading a row and sorting it into an
# index. Only for telling people how long to wait.
_SECONDS_PER_BYTE_COPIED: Final = 1 / 150e6
_SECONDS_PER_BYTE_READ: Final = 1 / 1e9
_SECONDS_PER_ROW_INDEXED: Final = 1e-6


class Plan(msgspec.Struct, frozen=True):
    """What must be done to a file before it is served; empty ``steps``: nothing.

    ``steps`` are names: ``create``, ``tables``, ``v2`` … ``v6``, ``complete``. ``backup`` asks
    for a copy beside the file first. ``seconds`` is an estimate with the backup in it.
    """

    from_version: int
    to_version: int
    steps: tuple[str, ...]
    backup: bool
    seconds: float


def plan(connection: apsw.Connection) -> Plan:
    """What :func:`migrate` would do; changes nothing.

    Raises :class:`OpenRefused` for a file that cannot be served, naming what it lacks.
    """
    verdict = look(connection)
    if verdict.is_empty:
        return Plan(0, schema.SCHEMA_VERSION, CREATE, False, 0.0)
    _refuse_unreadable_version(connection, verdict)
    refuse_unusable(verdict)
    if verdict.is_newer:
        assert verdict.version is not None
        steps: tuple[str, ...] = ("complete",) if _is_incomplete(verdict) else ()
        seconds = _seconds(connection, verdict, backup=False)
        return Plan(verdict.version, verdict.version, steps, False, seconds)
    version = max(verdict.version or _OLDEST, _OLDEST)
    steps = tuple(f"v{number}" for number in range(version + 1, schema.SCHEMA_VERSION + 1))
    if verdict.missing_tables or verdict.version is None:
        steps = ("tables", *steps)
    if _is_incomplete(verdict):
        steps = (*steps, "complete")
    backup = version < schema.SCHEMA_VERSION or bool(verdict.missing_columns)
    seconds = _seconds(connection, verdict, backup) if steps else 0.0
    return Plan(version, schema.SCHEMA_VERSION, steps, backup, seconds)


def refuse_unusable(verdict: Verdict) -> None:
    """Raise :class:`OpenRefused` for what no step can mend, naming it."""
    if verdict.is_newer:
        missing = (*verdict.missing_tables, *verdict.missing_columns)
        known = f"; this daemon knows version {schema.SCHEMA_VERSION} and what that has"
    else:
        missing = tuple(name for name in verdict.missing_columns if name not in _ADDABLE)
        known = ""
    if missing:
        what = "column" if "." in missing[0] else "table"
        raise OpenRefused(
            Reason.SCHEMA,
            f"a database of schema version {verdict.version or 'unknown'} without the {what}"
            f" {', '.join(missing)} cannot be served{known}; nothing was changed",
        )


def migrate(
    connection: apsw.Connection,
    plan: Plan,
    progress: Progress = lambda _step, _fraction: None,
    hook: Hook = lambda _step: None,
) -> None:
    """Do what the plan says, one transaction per step.

    ``progress`` is called with the step's name and the fraction of steps done, also during
    long statements; ``hook`` with a name at every point whose interruption must be harmless.
    ``apsw.BusyError``: another program holds the write lock; call again, with a new plan.
    """
    for number, step in enumerate(plan.steps):
        done = number / len(plan.steps)
        with beating(connection, partial(progress, step, done)):
            progress(step, done)
            with _transaction(connection, step, hook):
                _run(connection, step, hook)
        progress(step, (number + 1) / len(plan.steps))


def _run(connection: apsw.Connection, step: str, hook: Hook) -> None:
    verdict = look(connection)
    if step == "create":
        _create(connection, verdict, hook)
        return
    refuse_unusable(verdict)
    if step == "complete":
        _complete(connection, verdict, hook)
    elif step == "tables":
        _make_tables(connection, verdict, hook)
    else:
        _raise_version(connection, verdict, int(step.removeprefix("v")), hook)


@contextmanager
def _transaction(connection: apsw.Connection, step: str, hook: Hook) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        hook(f"{step}: begun")
        yield
        hook(f"{step}: before commit")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    hook(f"{step}: committed")


# --- steps -------------------------------------------------------------------------------------


def _create(connection: apsw.Connection, verdict: Verdict, hook: Hook) -> None:
    if not verdict.is_empty:
        return  # another program was quicker; the next plan sees its file
    connection.execute("DROP TABLE IF EXISTS schema_version")
    for statement in schema.statements():
        connection.execute(statement)
        hook("create: statement")
    ensure_meta(connection)


def _make_tables(connection: apsw.Connection, verdict: Verdict, hook: Hook) -> None:
    statements = {
        "schema_version": schema.SCHEMA_VERSION_TABLE,
        "sessions": schema.SESSIONS_TABLE,
        "messages": schema.MESSAGES_TABLE,
    }
    for name in verdict.missing_tables:
        connection.execute(statements[name])
        hook(f"tables: {name}")
    if verdict.version is None:
        connection.execute("INSERT INTO schema_version (version) VALUES (?)", (_OLDEST,))


def _raise_version(connection: apsw.Connection, verdict: Verdict, target: int, hook: Hook) -> None:
    if verdict.version is None or verdict.version >= target:
        return
    for column in COLUMNS_ADDED[target]:
        if column in verdict.missing_columns:
            _add_column(connection, column)
            hook(f"v{target}: {column}")
    if target == _TITLE_INDEX_VERSION and _TITLE_INDEX in verdict.missing_indexes:
        make_titles_unique(connection)
        hook(f"v{target}: titles")
        connection.execute(schema.INDEXES[_TITLE_INDEX])
    connection.execute("UPDATE schema_version SET version = ?", (target,))
    logger.info("schema version %d becomes %d", verdict.version, target)


def _add_column(connection: apsw.Connection, column: str) -> None:
    table, name = column.split(".")
    connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {_COLUMN_TYPES[column]}")


def _is_incomplete(verdict: Verdict) -> bool:
    if verdict.missing_sides or verdict.former_indexes:
        return True
    if _can_put_index_back(verdict) and not verdict.index_is_followed:
        return True
    return not verdict.is_newer and bool(verdict.missing_indexes or verdict.missing_columns)


def _complete(connection: apsw.Connection, verdict: Verdict, hook: Hook) -> None:
    """Put in place what the version promises and is not there, and sessiond's own tables.

    Of a newer file only the search index and sessiond's own: what else its program left out,
    it left out on purpose.
    """
    if not verdict.is_newer:
        for column in verdict.missing_columns:
            _add_column(connection, column)
            hook(f"complete: {column}")
        for name in verdict.missing_indexes:
            if name == _TITLE_INDEX:
                make_titles_unique(connection)
            connection.execute(schema.INDEXES[name])
            hook(f"complete: {name}")
    _make_sides(connection, verdict, hook)
    if _can_put_index_back(verdict) and not verdict.index_is_followed:
        _put_index_back(connection, verdict, hook)


def _make_sides(connection: apsw.Connection, verdict: Verdict, hook: Hook) -> None:
    missing = verdict.missing_sides
    _drop_orphans(connection, verdict, "sessiond_cjk_fts")
    for name, statement in (*schema.SIDE_TABLES.items(), *schema.SIDE_INDEXES.items()):
        if name in missing:
            connection.execute(statement)
            hook(f"complete: {name}")
    ensure_meta(connection)
    if "sessiond_cjk" in missing or "sessiond_cjk_fts" in missing:
        # One without the other is worth nothing: both are filled anew, from the first message.
        if "sessiond_cjk_fts" not in missing:
            connection.execute(
                "INSERT INTO sessiond_cjk_fts (sessiond_cjk_fts) VALUES ('delete-all')"
            )
        connection.execute("DELETE FROM sessiond_cjk")
        connection.execute("UPDATE sessiond_meta SET cjk_cursor = 0")
    if "sessiond_disorder" in missing or verdict.former_indexes:
        # A version that kept the index noted nothing, also if it came after one that did.
        connection.execute("DELETE FROM sessiond_disorder")
        connection.execute(NOTE_ALL)
    for name in verdict.former_indexes:
        connection.execute(f"DROP INDEX {name}")
        hook(f"complete: {name}")


def ensure_meta(connection: apsw.Connection) -> None:
    """Make the one row of ``sessiond_meta`` if it is not there, with a generation of its own."""
    connection.execute(
        "INSERT OR IGNORE INTO sessiond_meta (id, generation) VALUES (1, ?)", (os.urandom(16),)
    )


def _can_put_index_back(verdict: Verdict) -> bool:
    """Nothing of another layout carries one of the names that would be used."""
    return verdict.fts is not Part.FOREIGN and not any(
        name.lower() in schema.FTS_TRIGGERS for name in verdict.foreign_triggers
    )


def _put_index_back(connection: apsw.Connection, verdict: Verdict, hook: Hook) -> None:
    if verdict.fts is Part.MISSING:
        _drop_orphans(connection, verdict, "messages_fts")
        connection.execute(schema.FTS_TABLE)
        hook("complete: messages_fts")
    for name in verdict.missing_triggers:
        connection.execute(schema.FTS_TRIGGERS[name])
        hook(f"complete: {name}")
    # Also where only a trigger was gone: what was written meanwhile is not in the index.
    if rows(connection, "SELECT 1 FROM messages LIMIT 1"):
        connection.execute("UPDATE sessiond_meta SET index_state = ?", (REBUILD_NEEDED,))
        logger.warning("the search index was missing, it is back and must be rebuilt")


def _drop_orphans(connection: apsw.Connection, verdict: Verdict, index: str) -> None:
    """FTS5 keeps its data in tables of its own; left over, they block a new index."""
    if index not in verdict.tables:
        for suffix in ("data", "idx", "content", "docsize", "config"):
            if f"{index}_{suffix}" in verdict.tables:
                connection.execute(f"DROP TABLE {index}_{suffix}")


# --- telling how long --------------------------------------------------------------------------


def _refuse_unreadable_version(connection: apsw.Connection, verdict: Verdict) -> None:
    if "schema_version" in verdict.missing_tables:
        return
    try:
        odd = rows(
            connection,
            "SELECT CAST(version AS TEXT) FROM schema_version"
            " WHERE typeof(version) <> 'integer' LIMIT 1",
        )
    except apsw.SQLError as error:
        raise OpenRefused(
            Reason.SCHEMA, "the table schema_version has no column version; nothing was changed"
        ) from error
    if odd:
        raise OpenRefused(
            Reason.SCHEMA,
            f"schema version {odd[0][0]!r} is not an integer; nothing was changed",
        )


def _seconds(connection: apsw.Connection, verdict: Verdict, backup: bool) -> float:
    size = size_in_bytes(connection)
    over_messages = sum(
        name in ("idx_messages_session", "sessiond_disorder")
        for name in (*verdict.missing_indexes, *verdict.missing_sides)
    )
    messages = 0
    if "messages" in verdict.tables:
        messages = value(connection, "SELECT max(id) FROM messages") or 0
    an_index = messages * _SECONDS_PER_ROW_INDEXED + size * _SECONDS_PER_BYTE_READ
    return round(over_messages * an_index + backup * size * _SECONDS_PER_BYTE_COPIED, 1)
