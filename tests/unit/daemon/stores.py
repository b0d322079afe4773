"""A store on a file of its own, driven without a daemon, and the programs beside it."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from sessiond.sqlite.check import Report, check
from sessiond.sqlite.opening import bring_up_to_date, open_database, start_commit
from sessiond.sqlite.store import Store
from sessiond.work import Outcome, Work
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import Message, MessageAppend
from sessiond_protocol.requests.server import BatchApply, Item
from sessiond_protocol.requests.session import SessionCreate


class Clock:
    """A monotonic clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Peer:
    """A connection outside any channel."""

    closed = False
    client_id: bytes | None = None


class Opened:
    """A store, its clock, and what tests do with both."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.clock = Clock()
        connection = open_database(path)
        try:
            bring_up_to_date(connection)
            start_commit(connection)
            # No test waits for a lock unless it says so.
            self.store = Store(connection, **{"lock_timeout": 0.0, "clock": self.clock, **options})
        except BaseException:
            connection.close()
            raise
        self.connection = self.store.connection

    def apply(self, *requests: Request[Any]) -> list[Outcome]:
        """Apply requests as one batch; their outcomes."""
        return self.store.apply(works(*requests)).outcomes

    def results(self, *requests: Request[Any]) -> list[Any]:
        """The same where none may fail; their results."""
        outcomes = self.apply(*requests)
        assert [outcome.error for outcome in outcomes] == [None] * len(requests)
        return [msgspec.msgpack.decode(outcome.result or b"") for outcome in outcomes]

    def append(self, session: str, *texts: str | None) -> list[int]:
        """Append messages in one batch, making the session if need be; their ids."""
        made = SessionCreate(session_id=session, source="test", started_at=1.0)
        return self.results(made, *(appending(session, text) for text in texts))[1:]

    def care(self, idle: bool = True, most: int = 1000) -> int:
        """Let it care for the file until there is nothing more to do at once; the turns."""
        for turn in range(1, most + 1):
            if not self.store.care(idle):
                return turn
        raise AssertionError(f"housekeeping did not come to an end in {most} turns")

    def settle(self) -> None:
        """Let time pass, and everything that was left for later be done."""
        for _ in range(4):
            self.care()
            self.clock.advance(700.0)
        self.care()

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, parameters).fetchall()

    def value(self, sql: str, *parameters: Any) -> Any:
        return self.rows(sql, *parameters)[0][0]

    def found(self, words: str) -> list[int]:
        """Ids that ``messages_fts`` alone finds."""
        sql = "SELECT rowid FROM messages_fts WHERE messages_fts MATCH ? ORDER BY rowid"
        return [row[0] for row in self.rows(sql, words)]

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The statements that run in the block."""
        seen: list[str] = []

        def trace(_cursor: apsw.Cursor, sql: str, _bindings: object) -> bool:
            seen.append(sql)
            return True

        self.connection.set_exec_trace(trace)
        try:
            yield seen
        finally:
            self.connection.set_exec_trace(None)

    @property
    def index_state(self) -> str:
        state: str = self.value("SELECT index_state FROM sessiond_meta")
        return state

    def check(self) -> Report:
        """The file as another connection sees it."""
        with foreign(self.path) as connection:
            connection.execute("BEGIN")
            return check(connection)


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Opened]:
    """A store on a new or existing file, closed afterwards."""
    made = Opened(path, **options)
    try:
        yield made
    finally:
        made.store.close()


@contextmanager
def with_two_messages(path: Path) -> Iterator[Opened]:
    """A store with one message in each of the sessions ``s`` and ``t``: the next id is 3."""
    with opened(path) as made:
        made.append("s", "the first")
        made.append("t", "the second")
        yield made


@contextmanager
def foreign(path: Path) -> Iterator[apsw.Connection]:
    """Another program's connection: triggers run, foreign keys are not enforced."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(1000)
    try:
        yield connection
    finally:
        connection.close()


_numbers = itertools.count(1)


def works(*requests: Request[Any]) -> list[Work]:
    """Requests as they come from the inbox, without numbers or deadlines."""
    peer = Peer()
    return [Work(peer, next(_numbers), each, 0.0, float("inf"), 100) for each in requests]


def appending(session: str, text: str | None, key: str | None = None) -> MessageAppend:
    return MessageAppend(session_id=session, message=message(text, key))


def message(text: str | None, key: str | None = None) -> Message:
    return Message(role="user", timestamp=1.0, content=text, message_key=key)


def together(*requests: Request[Any]) -> BatchApply:
    """Requests as one ``batch.apply``."""
    items = []
    for request in requests:
        arguments = msgspec.Raw(msgspec.msgpack.encode(msgspec.structs.asdict(request)))
        items.append(Item(type(request).METHOD, arguments))
    return BatchApply(items=items)


def foreign_message(
    connection: apsw.Connection, session: str, text: Any, message_id: int | None = None
) -> int:
    """Append as another program does."""
    connection.execute(
        "INSERT INTO messages (id, session_id, role, content, timestamp) VALUES (?, ?, 'u', ?, 2)",
        (message_id, session, text),
    )
    return connection.last_insert_rowid()


def integrity(connection: apsw.Connection) -> None:
    """FTS5's own check of both indexes against their content."""
    for index in ("messages_fts", "sessiond_cjk_fts"):
        connection.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)")
