"""Merging the indexes when nobody writes."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.unit.daemon.stores import Opened, foreign, integrity, opened


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("a", "start")
        made.settle()
        yield made


def _segments(file: Opened, index: str = "messages_fts") -> int:
    count: int = file.value(f"SELECT count(DISTINCT segid) FROM {index}_idx")
    return count


def test_parts_are_merged_after_a_quiet_second(file: Opened) -> None:
    for number in range(7):
        file.append("a", f"words and more words {number} 中文{number}")
        file.care(idle=False)
    parts = _segments(file), _segments(file, "sessiond_cjk_fts")
    file.clock.advance(0.9)
    file.care()
    assert (_segments(file), _segments(file, "sessiond_cjk_fts")) == parts
    file.clock.advance(0.1)
    file.care()
    assert _segments(file) < parts[0]
    assert _segments(file, "sessiond_cjk_fts") < parts[1]
    assert file.store.health()["index"]["merges"] > 0
    integrity(file.connection)


def test_nothing_is_merged_without_writes(file: Opened) -> None:
    steps = file.store.health()["index"]["merges"]
    commits = file.store.commits
    for _ in range(5):
        file.clock.advance(100)
        file.care()
    assert file.store.health()["index"]["merges"] == steps
    assert file.store.commits == commits


def test_nothing_is_merged_while_others_write(file: Opened) -> None:
    steps = file.store.health()["index"]["merges"]
    for number in range(10):
        file.append("a", f"words {number}")
        file.clock.advance(2)
        file.care(idle=False)
    assert file.store.health()["index"]["merges"] == steps


def test_an_index_of_another_program_is_left_alone(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("CREATE TRIGGER watch AFTER INSERT ON messages BEGIN SELECT new.id; END")
    for number in range(7):
        file.append("a", f"words {number}")
    file.clock.advance(2)
    with file.statements() as seen:
        file.care()
    assert [sql for sql in seen if "messages_fts" in sql and "'merge'" in sql] == []


def test_an_index_that_breaks_while_it_is_merged_is_rebuilt(file: Opened) -> None:
    for number in range(7):
        file.append("a", f"words {number}")
    with foreign(file.path) as other:
        other.execute("UPDATE messages_fts_data SET block = x'00' WHERE id > 10")
    file.settle()
    assert file.index_state == ""
    assert file.store.health()["index"]["rebuilds"] == 1
    assert len(file.found("words")) == 7
    integrity(file.connection)
    assert isinstance(file.connection, apsw.Connection)
