"""The judgement of a schema: whose index it is, and what is missing."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.sqlite.judge import Mode, Part, Verdict, look, normalised, schema_cookie
from sessiond_protocol import schema
from tests.support import old_files


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    """A complete file of the current version, in memory."""
    connection = apsw.Connection(":memory:")
    for statement in schema.statements():
        connection.execute(statement)
    yield connection
    connection.close()


def judged(path: Path) -> Verdict:
    """The verdict on a file."""
    connection = apsw.Connection(str(path))
    try:
        return look(connection)
    finally:
        connection.close()


def test_our_own_file_is_ours_and_complete(connection: apsw.Connection) -> None:
    verdict = look(connection)
    assert verdict.mode is Mode.OURS
    assert verdict.fts is Part.OURS
    assert verdict.version == schema.SCHEMA_VERSION
    assert verdict.index_is_followed
    assert not verdict.is_newer
    assert not verdict.is_empty
    assert not verdict.has_active
    lacking = (
        verdict.missing_tables,
        verdict.missing_columns,
        verdict.missing_triggers,
        verdict.foreign_triggers,
        verdict.missing_indexes,
        verdict.missing_sides,
    )
    assert lacking == ((), (), (), (), (), ())


def test_another_layout_of_the_same_statements_is_ours(tmp_path: Path) -> None:
    old_files.make(tmp_path / "state.db", 6)
    verdict = judged(tmp_path / "state.db")
    assert verdict.mode is Mode.OURS
    assert set(verdict.missing_sides) == {*schema.SIDE_TABLES, *schema.SIDE_INDEXES}


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (1, 16),
        (2, 15),
        (3, 14),
        (4, 14),
        (5, 3),
        (6, 0),
    ],
)
def test_old_versions_lack_what_later_steps_add(tmp_path: Path, version: int, missing: int) -> None:
    old_files.make(tmp_path / "state.db", version)
    verdict = judged(tmp_path / "state.db")
    assert verdict.version == version
    assert len(verdict.missing_columns) == missing
    assert ("messages.finish_reason" in verdict.missing_columns) == (version < 2)
    assert ("sessions.title" in verdict.missing_columns) == (version < 3)
    assert ("sessions.cost_status" in verdict.missing_columns) == (version < 5)
    assert verdict.missing_indexes == (("idx_sessions_title_unique",) if version < 4 else ())


def test_a_newer_layout_is_foreign(tmp_path: Path) -> None:
    old_files.make_newer(tmp_path / "state.db")
    verdict = judged(tmp_path / "state.db")
    assert verdict.mode is Mode.FOREIGN
    assert verdict.fts is Part.FOREIGN
    assert verdict.is_newer
    assert verdict.has_active
    assert verdict.missing_columns == ()
    assert len(verdict.foreign_triggers) == 6
    assert verdict.index_is_followed


@pytest.mark.parametrize("table", ["messages", "sessions", "MESSAGES"])
def test_any_further_trigger_means_foreign(connection: apsw.Connection, table: str) -> None:
    connection.execute(f"CREATE TRIGGER audit AFTER UPDATE ON {table} BEGIN SELECT 1; END")
    verdict = look(connection)
    assert verdict.mode is Mode.FOREIGN
    assert verdict.foreign_triggers == ("audit",)
    assert verdict.fts is Part.OURS


def test_a_trigger_on_another_table_is_no_matter(connection: apsw.Connection) -> None:
    connection.execute("CREATE TABLE notes (text)")
    connection.execute("CREATE TRIGGER audit AFTER INSERT ON notes BEGIN SELECT 1; END")
    assert look(connection).mode is Mode.OURS


@pytest.mark.parametrize("name", list(schema.FTS_TRIGGERS))
def test_a_missing_trigger_means_a_missing_index(connection: apsw.Connection, name: str) -> None:
    connection.execute(f"DROP TRIGGER {name}")
    verdict = look(connection)
    assert verdict.mode is Mode.INDEX_MISSING
    assert verdict.missing_triggers == (name,)
    assert not verdict.index_is_followed


@pytest.mark.parametrize("name", list(schema.FTS_TRIGGERS))
def test_a_changed_trigger_means_foreign(connection: apsw.Connection, name: str) -> None:
    connection.execute(f"DROP TRIGGER {name}")
    connection.execute(schema.FTS_TRIGGERS[name].replace("BEGIN", "WHEN 1 BEGIN"))
    verdict = look(connection)
    assert verdict.mode is Mode.FOREIGN
    assert verdict.foreign_triggers == (name,)
    assert verdict.missing_triggers == ()


def test_a_dropped_table_means_a_missing_index(connection: apsw.Connection) -> None:
    connection.execute("DROP TABLE messages_fts")
    verdict = look(connection)
    assert verdict.mode is Mode.INDEX_MISSING
    assert verdict.fts is Part.MISSING
    assert not verdict.index_is_followed


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE VIRTUAL TABLE messages_fts USING fts5(content)",
        "CREATE VIRTUAL TABLE messages_fts USING fts5(content, content=messages,"
        " content_rowid=id, tokenize='porter')",
        "CREATE TABLE messages_fts (content)",
        "CREATE VIEW messages_fts AS SELECT content FROM messages",
    ],
)
def test_another_search_table_means_foreign(connection: apsw.Connection, definition: str) -> None:
    connection.execute("DROP TABLE messages_fts")
    connection.execute(definition)
    verdict = look(connection)
    assert verdict.mode is Mode.FOREIGN
    assert verdict.fts is Part.FOREIGN


def test_an_empty_file_and_its_beginning_are_empty() -> None:
    connection = apsw.Connection(":memory:")
    assert look(connection).is_empty
    connection.execute(schema.SCHEMA_VERSION_TABLE)
    assert look(connection).is_empty
    connection.execute("INSERT INTO schema_version VALUES (6)")
    assert not look(connection).is_empty
    connection.close()


@pytest.mark.parametrize("statement", ["CREATE TABLE notes (text)", "CREATE VIEW v AS SELECT 1"])
def test_a_file_with_anything_else_is_not_empty(statement: str) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(statement)
    assert not look(connection).is_empty
    connection.close()


@pytest.mark.parametrize(
    ("statement", "version"),
    [
        ("DELETE FROM schema_version", None),
        ("INSERT INTO schema_version VALUES (9)", 9),
        ("INSERT INTO schema_version VALUES (2)", 6),
        ("UPDATE schema_version SET version = 'ten'", None),
        ("ALTER TABLE schema_version RENAME version TO number", None),
        ("DROP TABLE schema_version", None),
    ],
)
def test_the_version_is_the_highest_row(
    connection: apsw.Connection, statement: str, version: int | None
) -> None:
    connection.execute(statement)
    assert look(connection).version == version


def test_a_change_is_seen_inside_a_transaction_by_its_cookie(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    old_files.make(path, 6)
    ours, other = apsw.Connection(str(path)), apsw.Connection(str(path))
    before = schema_cookie(ours)
    assert look(ours).mode is Mode.OURS
    other.execute("DROP TRIGGER messages_fts_update")
    ours.execute("BEGIN IMMEDIATE")
    assert schema_cookie(ours) != before
    assert look(ours).mode is Mode.INDEX_MISSING
    ours.execute("COMMIT")
    ours.close()
    other.close()


_STATEMENTS = [schema.FTS_TABLE, *schema.FTS_TRIGGERS.values()]
_WORDS = st.sampled_from(["AFTER", "content", "BEGIN", "new", "old", "x"])
_BLANKS = st.sampled_from(["", " ", "\n\t", "/* a comment */", "-- a line\n"])


@given(st.sampled_from(_STATEMENTS), st.data())
def test_layout_and_case_do_not_count(statement: str, data: st.DataObject) -> None:
    pieces = []
    for token in normalised(statement):
        text = (
            token
            if token.startswith("'")
            else data.draw(st.sampled_from([token, token.upper(), token.title()]))
        )
        pieces.append(text + (data.draw(_BLANKS) if not token.isalnum() else "\n"))
    ending = data.draw(st.sampled_from(["", ";", " ; ", " -- end"]))
    assert normalised(" ".join(pieces) + ending) == normalised(statement)


@given(st.sampled_from(_STATEMENTS), st.data())
def test_another_word_counts(statement: str, data: st.DataObject) -> None:
    tokens = list(normalised(statement))
    place = data.draw(st.integers(0, len(tokens) - 1))
    word = data.draw(_WORDS.filter(lambda word: word.lower() != tokens[place]))
    changed = [*tokens[:place], word, *tokens[place + 1 :]]
    assert normalised(" ".join(changed)) != normalised(statement)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("CREATE TRIGGER IF NOT EXISTS t", "create trigger t", True),
        ("CREATE TRIGGER t AFTER INSERT ON m FOR EACH ROW BEGIN", 'CREATE TRIGGER "t" AFTER'
         " INSERT ON [m] BEGIN", True),
        ("CREATE VIRTUAL TABLE f USING fts5(a, content='m')",
         'CREATE VIRTUAL TABLE `f` USING fts5(a, content="m")', True),
        ("INSERT INTO f VALUES ('delete')", "INSERT INTO f VALUES ('DELETE')", False),
        ("INSERT INTO f VALUES ('delete')", "INSERT INTO f VALUES (delete)", False),
        ("SELECT 'it''s -- one'", "SELECT 'it''s'", False),
        ('CREATE TABLE "a b"', "CREATE TABLE a b", False),
    ],
)  # fmt: skip
def test_quoting(one: str, other: str, equal: bool) -> None:
    assert (normalised(one) == normalised(other)) is equal


@given(st.text())
def test_any_text_has_tokens(text: str) -> None:
    normalised(text)
