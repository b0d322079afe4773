"""Another program changes the schema while the store is open."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from sessiond.work import Fate
from sessiond_protocol.requests.message import MessageAppendMany
from sessiond_protocol.requests.session import SessionDelete, SessionSetTitle
from sessiond_protocol.schema import FTS_TABLE, FTS_TRIGGERS
from tests.unit.daemon.stores import (
    Opened,
    appending,
    foreign,
    foreign_message,
    integrity,
    message,
    opened,
)

INLINE = "new.content || ' ' || coalesce(new.tool_name, '')"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("a", "one apple", "two 中文")
        made.settle()
        yield made


def _mode(file: Opened) -> str:
    mode: str = file.store.health()["schema"]["mode"]
    return mode


def _drop_index(other: apsw.Connection) -> None:
    for name in FTS_TRIGGERS:
        other.execute(f"DROP TRIGGER IF EXISTS {name}")
    other.execute("DROP TABLE IF EXISTS messages_fts")


def _make_inline_index(other: apsw.Connection) -> None:
    """A later layout: the index keeps its text, and has a second one beside it."""
    other.execute("CREATE VIRTUAL TABLE messages_fts USING fts5(content)")
    other.execute("CREATE VIRTUAL TABLE messages_fts_trigram USING fts5(content, tokenize=trigram)")
    for index, name in (("messages_fts", "fts"), ("messages_fts_trigram", "trigram")):
        other.execute(
            f"CREATE TRIGGER messages_{name}_insert AFTER INSERT ON messages BEGIN"
            f" INSERT INTO {index} (rowid, content) VALUES (new.id, {INLINE}); END"
        )
        other.execute(
            f"CREATE TRIGGER messages_{name}_delete AFTER DELETE ON messages BEGIN"
            f" DELETE FROM {index} WHERE rowid = old.id; END"
        )
        other.execute(
            f"INSERT INTO {index} (rowid, content) SELECT id, content FROM messages"
            f" WHERE id NOT IN (SELECT rowid FROM {index})"
        )


def test_a_migration_step_by_step_with_our_batches_in_between(file: Opened) -> None:
    with foreign(file.path) as other:
        for name in FTS_TRIGGERS:
            other.execute(f"DROP TRIGGER {name}")
        file.append("a", "apple without triggers")
        assert _mode(file) == "index_missing"
        assert file.index_state != ""
        other.execute("DROP TABLE messages_fts")
        file.append("a", "apple without a table")
        file.results(SessionSetTitle(session_id="a", title="t"))
        _make_inline_index(other)
        file.append("b", "apple by trigger", "中文 too")
        assert _mode(file) == "foreign"
        assert file.found("apple") == [1, 3, 4, 5]
        assert other.execute(
            "SELECT count(*) FROM messages_fts_trigram WHERE messages_fts_trigram MATCH 'ppl'"
        ).fetchall() == [(4,)]
        file.results(SessionDelete(session_id="b"))
        assert file.found("apple") == [1, 3, 4]
        file.settle()
        # Whole again, as far as counting can tell, so it is trusted again.
        assert file.index_state == ""
        for index in ("messages_fts", "messages_fts_trigram", "sessiond_cjk_fts"):
            other.execute(f"INSERT INTO {index} ({index}) VALUES ('integrity-check')")
        assert file.value("SELECT count(*) FROM sessiond_cjk") == 1


def test_a_foreign_index_that_lacks_messages_is_not_trusted_and_not_touched(file: Opened) -> None:
    with foreign(file.path) as other:
        _drop_index(other)
        _make_inline_index(other)
        other.execute("DELETE FROM messages_fts WHERE rowid = 1")
    file.settle()
    assert _mode(file) == "foreign"
    assert file.index_state != ""
    assert file.value("SELECT count(*) FROM messages_fts") == 1
    with foreign(file.path) as other:
        other.execute("INSERT INTO messages_fts (rowid, content) VALUES (1, 'one apple')")
    file.settle()
    assert file.index_state == ""


def test_triggers_are_as_the_mode_needs_them(file: Opened) -> None:
    def fired() -> int:
        count: int = file.value("SELECT count(*) FROM seen")
        return count

    with foreign(file.path) as other:
        other.execute("CREATE TABLE seen (id INTEGER)")
        file.append("a", "before")
        assert fired() == 0
        other.execute(
            "CREATE TRIGGER watch AFTER INSERT ON messages BEGIN"
            " INSERT INTO seen VALUES (new.id); END"
        )
        file.append("a", "during")
        assert (_mode(file), fired()) == ("foreign", 1)
        other.execute("DROP TRIGGER watch")
        file.append("a", "after")
        assert (_mode(file), fired()) == ("ours", 1)
    integrity(file.connection)
    assert file.found("before OR during OR after") == [3, 4, 5]


def test_what_is_missing_is_put_back_when_nobody_changes_the_schema_any_more(file: Opened) -> None:
    with foreign(file.path) as other:
        _drop_index(other)
        file.append("a", "later apple")
        file.care()
        file.clock.advance(9.5)
        other.execute("CREATE TABLE unrelated (a)")
        file.care()
        file.clock.advance(9.5)
        file.care()
        assert _mode(file) == "index_missing"
        file.clock.advance(0.5)
        file.care()
        assert _mode(file) == "ours"
        assert file.index_state == ""
        assert file.found("apple") == [1, 3]
        foreign_message(other, "a", "foreign apple")
        assert file.found("apple") == [1, 3, 4]
    integrity(file.connection)


def test_an_idle_store_notices_too(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("DROP TRIGGER messages_fts_update")
    file.care()
    assert _mode(file) == "index_missing"
    # Readers must know before the next message is stored.
    assert file.index_state != ""
    file.clock.advance(10)
    file.care()
    assert _mode(file) == "ours"
    assert file.index_state == ""


def test_an_index_that_comes_back_empty_is_noticed(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("BEGIN")
        _drop_index(other)
        other.execute(FTS_TABLE)
        for statement in FTS_TRIGGERS.values():
            other.execute(statement)
        other.execute("COMMIT")
    file.append("a", "three apple")
    file.results(SessionDelete(session_id="unknown"))
    file.settle()
    assert file.found("apple") == [1, 3]
    assert file.index_state == ""


def test_without_a_column_nothing_is_written_and_it_is_named(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("ALTER TABLE messages DROP COLUMN reasoning_details")
    for _ in range(2):
        (outcome,) = file.apply(appending("a", "lost"))
        assert outcome.fate is Fate.REFUSED
        assert outcome.error is not None
        code, text, data = outcome.error
        assert code == "database"
        assert "column messages.reasoning_details" in text
        assert "reading goes on" in text
        assert data == {"applied": False}
        file.settle()
    health = file.store.health()
    assert health["writable"] is False
    assert health["schema"]["missing"] == ["messages.reasoning_details"]
    with foreign(file.path) as other:
        other.execute("ALTER TABLE messages ADD COLUMN reasoning_details TEXT")
    assert file.results(appending("a", "stored")) == [3]
    assert file.store.health()["writable"] is True


def test_without_our_own_tables_nothing_is_written_until_they_are_back(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("DROP TABLE sessiond_receipts")
        other.execute("DROP TABLE sessiond_cjk_fts")
        other.execute("DROP TABLE sessiond_cjk")
    (outcome,) = file.apply(appending("a", "refused"))
    assert outcome.error is not None
    assert "sessiond_receipts" in outcome.error[1]
    file.settle()
    assert file.results(appending("a", "stored 中文")) == [3]
    assert file.rows("SELECT message_id FROM sessiond_cjk") == [(2,), (3,)]
    integrity(file.connection)


def test_a_change_between_two_runs_of_a_batch_is_seen_by_the_second(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    done: list[str] = []

    def between(name: str) -> None:
        if name == "between runs" and not done:
            done.append(name)
            _drop_index(other)

    with opened(path, crash_point=between) as file, foreign(path) as other:
        file.append("a", "one")
        # Fails after its first message is stored.
        wrong = msgspec.structs.replace(message("y"), role=None)
        bad = MessageAppendMany(session_id="a", messages=[message("x"), wrong])
        outcomes = file.apply(appending("a", "two"), bad, appending("a", "three"))
        assert done == ["between runs"]
        assert [outcome.error is None for outcome in outcomes] == [True, False, True]
        assert _mode(file) == "index_missing"
        file.settle()
        assert file.found("one OR two OR three") == [1, 2, 3]


# --- a damaged index of another program ---------------------------------------------------------


def test_a_damaged_foreign_index_does_not_refuse_messages(file: Opened) -> None:
    with foreign(file.path) as other:
        _drop_index(other)
        _make_inline_index(other)
        file.append("a", "three apple")
        other.execute("UPDATE messages_fts_data SET block = x'ffffffffffff' WHERE id = 10")
        assert file.results(appending("a", "four apple")) == [4]
        assert "damaged" in file.index_state
        assert file.results(appending("a", "five apple")) == [5]
        other.execute("INSERT INTO messages_fts_docsize VALUES (4, x'00'), (5, x'00')")
        file.settle()
        # It counts right, but it cannot be asked.
        assert "damaged" in file.index_state
        # Its own program makes it anew; from then on its triggers run again.
        other.execute("DROP TABLE messages_fts")
        other.execute("CREATE VIRTUAL TABLE messages_fts USING fts5(content)")
        other.execute("INSERT INTO messages_fts (rowid, content) SELECT id, content FROM messages")
        other.execute(
            "INSERT INTO messages_fts_trigram (rowid, content) SELECT id, content FROM messages"
            " WHERE id NOT IN (SELECT rowid FROM messages_fts_trigram)"
        )
    file.settle()
    assert file.index_state == ""
    file.append("a", "six apple")
    assert file.found("apple") == [1, 3, 4, 5, 6]
