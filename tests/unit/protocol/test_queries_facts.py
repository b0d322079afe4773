"""What a reader learns about a file's schema."""

import sqlite3

import pytest

from sessiond_protocol.queries.facts import change_counter, read_facts, schema_cookie
from tests.unit.protocol.filled import Recorded, fresh


def test_a_file_of_ours() -> None:
    with fresh() as connection:
        facts = read_facts(connection)
    assert (facts.version, facts.missing) == (6, ())
    assert (facts.active, facts.content, facts.meta) == (False, True, True)
    assert (facts.disorder, facts.by_session) == (True, True)
    assert {"sessions", "messages", "messages_fts", "sessiond_cjk"} <= facts.tables


def test_a_file_that_no_daemon_has_opened() -> None:
    with fresh(side_tables=False) as connection:
        facts = read_facts(connection)
    assert (facts.version, facts.missing) == (6, ())
    assert (facts.content, facts.meta, facts.disorder) == (False, False, False)
    assert facts.by_session


@pytest.mark.parametrize(
    "theirs",
    [
        None,
        "ON messages(timestamp, session_id)",
        "ON messages(session_id)",
        "ON messages(session_id, timestamp, role)",
        "ON messages(session_id, timestamp) WHERE role = 'user'",
        "ON sessions(id, started_at)",
    ],
)
def test_an_index_of_that_name_is_used_only_if_it_is_the_one(theirs: str | None) -> None:
    with fresh() as connection:
        connection.execute("DROP INDEX idx_messages_session")
        if theirs is not None:
            connection.execute(f"CREATE INDEX idx_messages_session {theirs}")
        assert not read_facts(connection).by_session


def test_what_an_earlier_sessiond_does_not_keep_is_not_trusted() -> None:
    with fresh() as connection:
        connection.execute("CREATE INDEX sessiond_messages_order ON messages(session_id)")
        assert not read_facts(connection).disorder


def test_a_newer_file_has_messages_that_can_be_rewound() -> None:
    with fresh(active=True) as connection:
        assert read_facts(connection).active


def test_an_older_file_lacks_columns_by_name() -> None:
    with fresh(side_tables=False) as connection:
        connection.execute("ALTER TABLE messages DROP COLUMN reasoning")
        connection.execute("ALTER TABLE sessions DROP COLUMN pricing_version")
        assert read_facts(connection).missing == ("sessions.pricing_version", "messages.reasoning")


def test_an_empty_file_lacks_everything() -> None:
    connection = sqlite3.connect(":memory:")
    facts = read_facts(connection)
    connection.close()
    assert facts.version is None
    assert len(facts.missing) == 26 + 13
    assert facts.tables == frozenset()


def test_the_cookie_changes_with_the_schema_only() -> None:
    with fresh() as connection:
        facts = read_facts(connection)
        connection.execute("INSERT INTO sessions (id, source, started_at) VALUES ('s', 'cli', 1)")
        assert schema_cookie(connection) == facts.cookie
        connection.execute("ALTER TABLE messages ADD COLUMN active INTEGER DEFAULT 1")
        assert schema_cookie(connection) != facts.cookie
        assert read_facts(connection).active


def test_everything_about_the_schema_is_of_one_moment() -> None:
    with fresh() as connection:
        recorded = Recorded(connection)
        read_facts(recorded)
    assert [sql for sql, _ in recorded.statements[1:]] == [
        "SELECT MAX(version) FROM schema_version"
    ]


@pytest.mark.parametrize("side_tables", [True, False])
def test_the_change_counter_of_a_file_without_a_daemon(side_tables: bool) -> None:
    with fresh(side_tables=side_tables) as connection:
        assert change_counter(connection, read_facts(connection)) == [b"", 0]


def test_the_change_counter() -> None:
    with fresh() as connection:
        connection.execute(
            "INSERT INTO sessiond_meta (id, generation, commits) VALUES (1, x'00ff', 7)"
        )
        assert change_counter(connection, read_facts(connection)) == [b"\x00\xff", 7]
