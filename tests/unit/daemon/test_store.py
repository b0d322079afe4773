"""The store as a whole: random batches against a model, and what stops it from writing."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.database import Greeting, UnsafeFile
from sessiond.sqlite import pragmas
from sessiond.sqlite.store import Store
from sessiond.work import Fate, Outcome
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import MessageAppendMany, MessageClear, MessageReplace
from sessiond_protocol.requests.server import ServerHello
from sessiond_protocol.requests.session import (
    SessionCreate,
    SessionDelete,
    SessionEnd,
    SessionPruneSlice,
    SessionSetTitle,
)
from tests.unit.daemon.stores import (
    Opened,
    appending,
    foreign,
    foreign_message,
    integrity,
    message,
    opened,
    together,
    works,
)

SESSIONS = ("a", "b", "c")
TEXTS = (
    None,
    "",
    "hello world",
    "Größe – größer",
    "安装器 setup",
    "日本語のテキスト",
    "x\0y 中",
    "🎉ok",
)


def _code(outcome: Outcome) -> str | None:
    return outcome.error[0] if outcome.error else None


# --- random batches ------------------------------------------------------------------------

_texts = st.sampled_from(TEXTS)
_sessions = st.sampled_from((*SESSIONS, "unknown"))
_messages = st.lists(_texts, max_size=4).map(lambda texts: [message(text) for text in texts])
_single = st.one_of(
    st.builds(appending, _sessions, _texts, st.sampled_from((None, None, "k1", "k2"))),
    st.builds(lambda s, m: MessageAppendMany(session_id=s, messages=m), _sessions, _messages),
    st.builds(lambda s, m: MessageReplace(session_id=s, messages=m), _sessions, _messages),
    st.builds(lambda s: MessageClear(session_id=s), _sessions),
    st.builds(lambda s: SessionDelete(session_id=s), _sessions),
    st.builds(
        lambda s: SessionCreate(session_id=s, source="x", started_at=1.0), st.sampled_from(SESSIONS)
    ),
    st.builds(lambda s: SessionEnd(session_id=s, end_reason="e", ended_at=2.0), _sessions),
    st.builds(lambda s: SessionSetTitle(session_id=s, title="one title"), _sessions),
    st.just(SessionPruneSlice(before=100.0, limit=1)),
)
_request = st.one_of(_single, st.lists(_single, min_size=1, max_size=4).map(lambda r: together(*r)))
_batch = st.tuples(st.just("batch"), st.lists(_request, min_size=1, max_size=6))
_change = st.one_of(
    st.tuples(st.just("insert"), st.sampled_from(SESSIONS), _texts),
    st.tuples(st.just("insert below"), st.sampled_from(SESSIONS), _texts),
    st.tuples(st.just("update"), st.integers(0, 5), _texts),
    st.tuples(st.just("delete"), st.integers(0, 5), st.none()),
)


def _disturb(connection: apsw.Connection, change: tuple[str, Any, Any]) -> None:
    kind, where, text = change
    if kind == "insert":
        foreign_message(connection, where, text)
        return
    ids = [row[0] for row in connection.execute("SELECT id FROM messages ORDER BY id").fetchall()]
    if kind == "insert below":
        free = next(number for number in range(1, 10_000) if number not in ids)
        foreign_message(connection, where, text, free)
    elif not ids:
        return
    elif kind == "update":
        chosen = ids[where % len(ids)]
        connection.execute("UPDATE messages SET content = ? WHERE id = ?", (text, chosen))
    else:
        connection.execute("DELETE FROM messages WHERE id = ?", (ids[where % len(ids)],))


def _sound(file: Opened, *, exact: bool) -> None:
    """The index is never behind a commit; the rest, once there was time."""
    with foreign(file.path) as connection:
        connection.execute(
            "INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)"
        )
    report = file.check()
    kinds = {kind.value for kind in report.counts}
    if not exact:
        # Another program changes counters and rows in its own way.
        kinds -= {"counter", "pairs", "content", "keys", "foreign key"}
    assert not kinds, report
    assert file.index_state == ""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(_batch, min_size=1, max_size=8))
def test_own_batches_keep_everything_exact(steps: list[tuple[str, list[Request[Any]]]]) -> None:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "s.db") as file:
        for _, requests in steps:
            file.apply(*requests)
            _sound(file, exact=True)
            cursor, highest = file.rows(
                "SELECT cjk_cursor, (SELECT coalesce(max(id), 0) FROM messages) FROM sessiond_meta"
            )[0]
            assert cursor >= highest
        integrity(file.connection)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(st.one_of(_batch, _batch, _change), min_size=2, max_size=10), care=st.booleans()
)
def test_foreign_changes_in_between(steps: list[Any], care: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        with opened(path) as file, foreign(path) as other:
            for step in steps:
                if step[0] == "batch":
                    file.apply(*step[1])
                else:
                    _disturb(other, step)
                if care:
                    file.care(idle=False)
                _sound(file, exact=False)
            file.settle()
            report = file.check()
            assert {kind.value for kind in report.counts} <= {"counter", "foreign key"}, report
            integrity(file.connection)


# --- one request's failure -----------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        yield made


def test_a_failing_request_leaves_no_mark_on_its_neighbours(file: Opened) -> None:
    file.append("a", "one")
    outcomes = file.apply(
        appending("a", "two"),
        together(appending("a", "three 中文"), appending("nobody", "four")),
        appending("nobody", "five"),
        appending("a", "six 中文"),
    )
    assert [_code(each) for each in outcomes] == [None, "integrity", "integrity", None]
    assert [row[0] for row in file.rows("SELECT content FROM messages")] == [
        "one",
        "two",
        "six 中文",
    ]
    assert file.check().sound


# --- what refuses a whole batch --------------------------------------------------------------


def test_a_foreign_lock_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    turns: list[float] = []

    def wait(remaining: float) -> bool:
        turns.append(remaining)
        return len(turns) < 3

    path = tmp_path / "state.db"
    with opened(path, lock_timeout=60.0, wait_turn=wait) as file, foreign(path) as other:
        file.append("a", "one")
        other.execute("BEGIN IMMEDIATE")
        (outcome,) = file.apply(appending("a", "two"))
        assert outcome.fate is Fate.REFUSED
        assert outcome.error is not None
        assert "write lock for more than 60 s" in outcome.error[1]
        assert outcome.error[2] == {"applied": False}
        assert len(turns) == 3
        other.execute("ROLLBACK")
        assert file.results(appending("a", "two")) == [2]


def test_a_full_disk_refuses_the_batch_and_the_next_one_works(file: Opened) -> None:
    file.append("a", "one")
    limit = file.value("PRAGMA page_count")
    file.rows(f"PRAGMA max_page_count={limit}")
    outcomes = file.apply(*(appending("a", "text " * 2000) for _ in range(20)))
    assert {_code(each) for each in outcomes} == {"disk_full"}
    assert {each.fate for each in outcomes} == {Fate.REFUSED}
    file.rows("PRAGMA max_page_count=1000000")
    assert file.results(appending("a", "two")) == [2]
    assert file.check().sound


def test_no_message_id_left_is_not_a_full_disk(file: Opened) -> None:
    file.append("a", "one")
    with foreign(file.path) as other:
        foreign_message(other, "a", "last", 2**63 - 1)
    (outcome,) = file.apply(appending("a", "two"))
    assert outcome.error is not None
    assert outcome.error[:2] == ("database", "no message id is left above 2**63 - 1")
    file.settle()
    assert file.check().counts.keys() <= {"counter"}


@pytest.mark.parametrize("asked", [1, 2])
def test_an_alarm_before_or_after_the_commit_answers_nobody(tmp_path: Path, asked: int) -> None:
    times = 0
    armed = False

    def look() -> str | None:
        nonlocal times
        times += armed
        return "replaced" if armed and times == asked else None

    with opened(tmp_path / "state.db", check_files=look) as file:
        file.append("a", "one")
        armed = True
        with pytest.raises(UnsafeFile, match="replaced"):
            file.apply(appending("a", "two"))
        armed = False
        # Nothing was rolled back: whoever raised the alarm leaves that to the next start.
        assert file.connection.in_transaction is (asked == 1)


def test_damage_of_the_file_stops_writing_and_not_reading(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("a", *(f"message number {number} " * 50 for number in range(200)))
        root = file.value("SELECT rootpage FROM sqlite_schema WHERE name = 'sessions'")
        size = file.value("PRAGMA page_size")
    with path.open("r+b") as raw:
        raw.seek((root - 1) * size)
        raw.write(b"\xff" * 64)
    connection = _open_without_looking(path)
    store = Store(connection, lock_timeout=0.0)
    try:
        for _ in range(2):
            (outcome,) = store.apply(works(appending("a", "more"))).outcomes
            assert outcome.fate is Fate.REFUSED
            assert outcome.error is not None
            assert outcome.error[0] == "database"
            assert "nothing is written any more, reading goes on" in outcome.error[1]
        health = store.health()
        assert health["writable"] is False
        assert "damaged" in health["reason"]
        assert store.care(idle=True) is False
        assert connection.execute("SELECT count(*) FROM messages").fetchall() == [(200,)]
    finally:
        store.close()


def test_a_channel_that_cannot_be_read_is_new_and_nothing_raises(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        root = file.value("SELECT rootpage FROM sqlite_schema WHERE name = 'sessiond_clients'")
        size = file.value("PRAGMA page_size")
    with path.open("r+b") as raw:
        raw.seek((root - 1) * size)
        raw.write(b"\xff" * 64)
    hello = ServerHello(protocol=1, client_id=b"x" * 16)
    with opened(path) as file:
        assert file.store.greet(hello) == Greeting(False, 0, file.store.generation)
        assert file.store.status(b"x" * 16, 1) == "unknown"
        work = works(appending("a", "one"))[0]
        work.channel, work.seq, work.floor = b"x" * 16, 1, 1
        (outcome,) = file.store.apply([work]).outcomes
        assert _code(outcome) == "database"
        assert file.store.health()["writable"] is False


def _open_without_looking(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    pragmas.configure(connection, 1024)
    return connection


class FailingCommit(apsw.Connection):
    """Fails at COMMIT as told, having committed or not."""

    error: type[apsw.Error] | None = None
    commits_first = False

    def execute(self, statements: str, *arguments: Any, **options: Any) -> Any:
        if statements == "COMMIT" and self.error is not None:
            super().execute("COMMIT" if self.commits_first else "ROLLBACK")
            raise self.error("as told")
        return super().execute(statements, *arguments, **options)


@pytest.mark.parametrize("stored", [True, False])
def test_a_commit_of_unknown_fate_answers_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    monkeypatch.setattr(apsw, "Connection", FailingCommit)
    with opened(tmp_path / "state.db") as file:
        file.append("a", "one")
        assert isinstance(file.connection, FailingCommit)
        file.connection.error, file.connection.commits_first = apsw.IOError, stored
        with pytest.raises(UnsafeFile, match="the fate of a commit is unknown: as told"):
            file.apply(appending("a", "two"))
        file.store.rebuild_index()
        with pytest.raises(UnsafeFile):
            file.care()
        file.connection.error = None


@pytest.mark.parametrize("error", [apsw.FullError, apsw.ConstraintError])
def test_a_commit_that_is_known_to_have_failed_refuses_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[apsw.Error]
) -> None:
    monkeypatch.setattr(apsw, "Connection", FailingCommit)
    with opened(tmp_path / "state.db") as file:
        file.append("a", "one")
        assert isinstance(file.connection, FailingCommit)
        file.connection.error = error
        (outcome,) = file.apply(appending("a", "two"))
        assert outcome.fate is Fate.REFUSED
        assert _code(outcome) == ("disk_full" if error is apsw.FullError else "database")
        file.connection.error = None
        assert file.results(appending("a", "three")) == [2]
        assert file.store.commits == file.value("SELECT commits FROM sessiond_meta")


class BrokenAgain(apsw.Connection):
    """Finds an index corrupt so many times without saying which."""

    left = 0

    def execute(self, statements: str, *arguments: Any, **options: Any) -> Any:
        self._fail(statements)
        return super().execute(statements, *arguments, **options)

    def executemany(self, statements: str, *arguments: Any, **options: Any) -> Any:
        self._fail(statements)
        return super().executemany(statements, *arguments, **options)

    def _fail(self, statements: str) -> None:
        if self.left and statements.startswith("INSERT INTO messages "):
            self.left -= 1
            error = apsw.CorruptError("malformed")
            error.extendedresult = apsw.SQLITE_CORRUPT_VTAB  # type: ignore[attr-defined]
            raise error


def test_damage_of_an_unknown_index_leaves_none_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apsw, "Connection", BrokenAgain)
    with opened(tmp_path / "state.db") as file:
        file.append("a", "one", "中文")
        assert isinstance(file.connection, BrokenAgain)
        file.connection.left = 3  # with its neighbours, alone, and without the first index
        assert file.results(appending("a", "two 中文")) == [3]
        assert file.index_state == "damaged (malformed); pair index damaged (malformed)"
        file.settle()
        assert file.index_state == ""
        assert file.check().sound


# --- health ----------------------------------------------------------------------------------


def test_health_is_plain_and_asks_no_file(file: Opened) -> None:
    file.append("a", "one", "中文")
    file.settle()
    with file.statements() as asked:
        health = file.store.health()
    assert asked == []
    assert health["writable"] is True
    assert health["reason"] is None
    assert health["schema"] == {"mode": "ours", "version": 6, "missing": []}
    assert health["index"]["state"] == "healthy"
    assert health["index"]["pairs_cursor"] == 2
    assert health["checkpoint"].keys() == {"busy", "log", "checkpointed"}
    assert health["pages"]["page_count"] > 10
    assert (
        health["commits"] == file.store.commits == file.value("SELECT commits FROM sessiond_meta")
    )


def test_every_commit_of_ours_raises_the_count(file: Opened) -> None:
    before = file.store.commits
    file.append("a", "one")
    file.append("a", "two")
    assert file.store.commits == before + 2


def test_close_leaves_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("a", "one")
    assert os.stat(f"{path}-wal").st_size == 0


def test_the_wait_for_the_disk_is_part_of_the_commit(tmp_path: Path) -> None:
    with opened(tmp_path / "state.db") as file:
        file.append("a", "one")
        applied = file.store.apply(works(appending("a", "two")))
    assert 0 < applied.sync_seconds < applied.commit_seconds
