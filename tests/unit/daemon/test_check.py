"""The consistency check, and what it mends."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.sqlite.backup import copy_to
from sessiond.sqlite.check import MOST_FINDINGS, Kind, Report, check, repair
from sessiond_protocol.content import text_hash
from tests.unit.daemon.stores import Opened, appending, foreign, integrity, opened


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("a", "one apple", "two 中文", None, "", "x\0y")
        made.append("b", "three apple", "四 apple")
        made.results(appending("a", "keyed", key="k"))
        made.settle()
        yield made


def _raw(file: Opened, *statements: str) -> None:
    """Change something behind everybody's back."""
    with foreign(file.path) as other:
        other.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        for statement in statements:
            other.execute(statement)


def _kinds(report: Report) -> set[Kind]:
    return set(report.counts)


def test_a_sound_file_has_no_findings(file: Opened) -> None:
    report = file.check()
    assert report == Report()
    assert report.sound


def test_it_runs_on_an_online_copy(file: Opened, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    list(copy_to(file.connection, str(target), 5))
    _raw(file, "UPDATE sessions SET message_count = 99")
    with foreign(target) as copy:
        assert check(copy).sound


def test_it_changes_nothing_and_needs_no_write_access(file: Opened) -> None:
    before = file.value("PRAGMA data_version")
    connection = apsw.Connection(f"file:{file.path}?mode=ro", flags=0x1 | 0x40)
    try:
        assert check(connection).sound
        assert connection.execute("SELECT name FROM temp.sqlite_schema").fetchall() == []
    finally:
        connection.close()
    assert file.value("PRAGMA data_version") == before


DAMAGES = {
    "a counter of messages": ("UPDATE sessions SET message_count = 7 WHERE id = 'a'", Kind.COUNTER),
    "a counter of calls": ("UPDATE sessions SET tool_call_count = 7 WHERE id = 'b'", Kind.COUNTER),
    "a sequence behind": ("UPDATE sqlite_sequence SET seq = 2", Kind.SEQUENCE),
    "no sequence": ("DELETE FROM sqlite_sequence", Kind.SEQUENCE),
    "text changed": ("UPDATE messages SET content = 'pear apple' WHERE id = 1", Kind.INDEX),
    "same words, other order": (
        "UPDATE messages SET content = 'apple one' WHERE id = 1",
        Kind.INDEX,
    ),
    "texts exchanged": (
        "UPDATE messages SET content = CASE id WHEN 1 THEN 'three apple' ELSE 'one apple' END"
        " WHERE id IN (1, 6)",
        Kind.INDEX,
    ),
    "not indexed": (
        "INSERT INTO messages (id, session_id, role, content, timestamp)"
        " VALUES (50, 'a', 'u', NULL, 1)",
        Kind.INDEX,
    ),
    "indexed but gone": ("DELETE FROM messages WHERE id = 1", Kind.INDEX),
    "no pairs": ("DELETE FROM sessiond_cjk WHERE message_id = 2", Kind.PAIRS),
    "other pairs": ("UPDATE sessiond_cjk SET pairs = '中国' WHERE message_id = 2", Kind.PAIRS),
    "pairs without a message": ("INSERT INTO sessiond_cjk VALUES (99, '中')", Kind.PAIRS),
    "pair index": (
        "INSERT INTO sessiond_cjk_fts (sessiond_cjk_fts) VALUES ('delete-all')",
        Kind.PAIR_INDEX,
    ),
    "structure without a message": (
        "INSERT INTO sessiond_content VALUES (99, '[]', x'00')",
        Kind.CONTENT,
    ),
    "structure of other text": (
        "INSERT INTO sessiond_content VALUES (1, '[]', x'00')",
        Kind.CONTENT,
    ),
    "a key without a message": (
        "INSERT INTO sessiond_message_keys VALUES ('a', 'q', 99)",
        Kind.KEYS,
    ),
    "a key of another session": (
        "INSERT INTO sessiond_message_keys VALUES ('b', 'q', 1)",
        Kind.KEYS,
    ),
    "times that fall": ("UPDATE messages SET timestamp = 0 WHERE id = 3", Kind.ORDER),
    "a message without a session": ("DELETE FROM sessions WHERE id = 'b'", Kind.FOREIGN_KEY),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_what_is_derived_is_mended(file: Opened, name: str) -> None:
    statement, kind = DAMAGES[name]
    _raw(file, statement)
    report = file.check()
    assert kind in _kinds(report), report
    assert all(finding.detail for finding in report.findings)
    with foreign(file.path) as other:
        mended = repair(other, report)
    if kind is Kind.FOREIGN_KEY:
        assert kind not in mended
        return
    assert kind in mended
    file.store.reload()
    file.settle()
    assert file.check().sound
    integrity(file.connection)


def test_structure_of_its_text_is_sound(file: Opened) -> None:
    file.connection.execute(
        "INSERT INTO sessiond_content VALUES (1, '[]', ?)", (text_hash("one apple"),)
    )
    assert file.check().sound


def test_messages_that_nobody_has_paired_yet_are_no_finding(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute(
            "INSERT INTO messages (session_id, role, content, timestamp) VALUES ('a', 'u', '外', 1)"
        )
    assert _kinds(file.check()) == {Kind.COUNTER}


def test_a_damaged_index_is_a_finding_not_an_error(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("UPDATE messages_fts_data SET block = x'ffffffffffff' WHERE id = 10")
        other.execute("CREATE VIRTUAL TABLE messages_fts_own USING fts5(a)")
        other.execute("UPDATE messages_fts_own_data SET block = x'ffffffffffff' WHERE id = 10")
    report = file.check()
    assert _kinds(report) == {Kind.INDEX, Kind.OTHER_INDEX}


def test_a_damaged_file_is_a_finding_not_an_error(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("a", *("text " * 300 for _ in range(100)))
        root = file.value("SELECT rootpage FROM sqlite_schema WHERE name = 'idx_messages_session'")
        size = file.value("PRAGMA page_size")
    with path.open("r+b") as raw:
        raw.seek((root - 1) * size)
        raw.write(b"\xff" * 200)
    with foreign(path) as other:
        report = check(other)
        assert Kind.FILE in _kinds(report)
        assert Kind.FILE not in repair(other, report)


def test_long_lists_are_cut_and_counted(file: Opened) -> None:
    file.append("c", *("word" for _ in range(MOST_FINDINGS + 50)))
    _raw(file, "INSERT INTO messages_fts (messages_fts) VALUES ('delete-all')")
    report = file.check()
    found = [finding for finding in report.findings if finding.kind is Kind.INDEX]
    assert len(found) == MOST_FINDINGS
    assert report.counts[Kind.INDEX] > MOST_FINDINGS


def test_a_foreign_index_is_left_out_and_said_so(file: Opened) -> None:
    _raw(
        file,
        "DROP TABLE messages_fts",
        "CREATE VIRTUAL TABLE messages_fts USING fts5(content)",
    )
    report = file.check()
    assert report.sound
    assert report.skipped == ["messages_fts: foreign"]


def test_a_daemon_rebuilds_what_a_check_has_only_marked(file: Opened) -> None:
    _raw(file, "UPDATE messages SET content = 'pear' WHERE id = 1")
    report = file.check()
    repair(file.connection, report, rebuild=False)
    assert file.index_state == "found different by a check"
    file.store.reload()
    file.settle()
    assert file.index_state == ""
    assert file.found("pear") == [1]


def test_progress_is_told_part_by_part(file: Opened) -> None:
    parts: list[str] = []
    with foreign(file.path) as other:
        check(other, parts.append)
    expected = ["file", "foreign keys", "counters", "sequence", "side tables", "indexes"]
    assert list(dict.fromkeys(parts)) == expected


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(st.text(max_size=12), min_size=1, max_size=6),
    other=st.text(max_size=12),
    which=st.integers(0, 5),
)
def test_it_agrees_with_fts5(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], other: str, which: int
) -> None:
    """On any change behind the index's back: a finding exactly when FTS5 itself objects."""
    with opened(tmp_path_factory.mktemp("check") / "s.db") as file:
        file.append("a", *texts)
        with foreign(file.path) as connection:
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
            changed = which % len(texts) + 1
            connection.execute("UPDATE messages SET content = ? WHERE id = ?", (other, changed))
            try:
                sql = "INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)"
                connection.execute(sql)
                sound = True
            except apsw.CorruptError:
                sound = False
            assert (Kind.INDEX not in check(connection).counts) is sound
