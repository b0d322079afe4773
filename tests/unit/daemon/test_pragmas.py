"""Settings whose effect is more than the value of a pragma."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite import pragmas
from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.judge import Mode
from sessiond.sqlite.opening import bring_up_to_date, open_database
from sessiond.sqlite.refusal import OpenRefused
from tests.support import old_files


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    """The write connection to a complete file with data."""
    old_files.make(tmp_path / "state.db", 6)
    connection = open_database(tmp_path / "state.db")
    bring_up_to_date(connection)
    yield connection
    connection.close()


def found(connection: apsw.Connection, word: str) -> int:
    """How many messages the index finds."""
    count: int = value(connection, "SELECT count(*) FROM messages_fts(?)", (word,))
    return count


def append(connection: apsw.Connection, content: str) -> None:
    """Store a message."""
    connection.execute(
        "INSERT INTO messages (session_id, role, content, timestamp) VALUES ('root', 'user', ?, 1)",
        (content,),
    )


@pytest.mark.parametrize(
    ("mode", "fired"), [(Mode.OURS, 0), (Mode.INDEX_MISSING, 0), (Mode.FOREIGN, 1)]
)
def test_triggers_run_only_for_a_foreign_index(
    connection: apsw.Connection, mode: Mode, fired: int
) -> None:
    pragmas.set_triggers(connection, mode)
    append(connection, "zebra")
    assert found(connection, "zebra") == fired


def test_triggers_can_be_switched_inside_a_transaction(connection: apsw.Connection) -> None:
    pragmas.set_triggers(connection, Mode.OURS)
    append(connection, "zebra")
    connection.execute("BEGIN IMMEDIATE")
    pragmas.set_triggers(connection, Mode.FOREIGN)
    append(connection, "zebra")
    connection.execute("COMMIT")
    assert found(connection, "zebra") == 1


def test_a_foreign_index_works_in_a_distrusted_schema(tmp_path: Path) -> None:
    old_files.make_newer(tmp_path / "newer.db")
    connection = open_database(tmp_path / "newer.db")
    bring_up_to_date(connection)
    pragmas.set_triggers(connection, Mode.FOREIGN)
    append(connection, "zebra")
    assert found(connection, "zebra") == 1
    assert value(connection, "SELECT count(*) FROM messages_fts_trigram('ebr')") == 1
    connection.execute("DELETE FROM messages WHERE content = 'zebra'")
    assert found(connection, "zebra") == 0
    connection.close()


def test_a_message_needs_its_session_with_triggers_off(connection: apsw.Connection) -> None:
    pragmas.set_triggers(connection, Mode.OURS)
    with pytest.raises(apsw.ConstraintError):
        connection.execute("INSERT INTO messages (session_id, role, timestamp) VALUES ('x','u',1)")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM messages_fts_data",
        "UPDATE sqlite_schema SET sql = ''",
    ],
)
def test_no_slip_reaches_the_inside_of_the_index(
    connection: apsw.Connection, statement: str
) -> None:
    connection.execute("PRAGMA writable_schema=ON").fetchall()
    with pytest.raises(apsw.SQLError):
        connection.execute(statement)


def test_a_rebuild_and_a_swap_of_the_index_stay_possible(connection: apsw.Connection) -> None:
    connection.execute("INSERT INTO messages_fts (messages_fts) VALUES ('rebuild')")
    connection.execute("PRAGMA legacy_alter_table=ON").fetchall()
    with connection:
        connection.execute(
            "CREATE VIRTUAL TABLE sessiond_fts_next"
            " USING fts5(content, content=messages, content_rowid=id)"
        )
        connection.execute("INSERT INTO sessiond_fts_next (sessiond_fts_next) VALUES ('rebuild')")
        connection.execute("DROP TABLE messages_fts")
        connection.execute("ALTER TABLE sessiond_fts_next RENAME TO messages_fts")
    assert found(connection, "soil") == 1
    assert rows(connection, "PRAGMA integrity_check") == [("ok",)]


def test_a_file_system_without_shared_memory_is_refused() -> None:
    connection = apsw.Connection(":memory:")
    with pytest.raises(OpenRefused, match="journal mode memory"):
        pragmas.use_write_ahead_log(connection)
    connection.close()
