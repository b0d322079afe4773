"""Housekeeping as a whole: shares of time, breaks after failures, what is done first."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond_protocol.requests.message import MessageAppendMany
from tests.unit.daemon.stores import Clock, Opened, appending, foreign, message, opened


class Ticking(Clock):
    """Every look takes a while, as work does."""

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("a", "one")
        yield made


def test_long_work_gets_a_share_of_the_time_while_others_write(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        for _ in range(20):
            texts = [message("text " * 400)] * 50
            file.append("a")
            file.results(MessageAppendMany(session_id="a", messages=texts))
    clock = Ticking()
    with opened(path, clock=clock) as file:
        file.clock = clock
        assert file.store.care(idle=False) is True  # a first slice of the pass
        working = [file.store.care(idle=False) for _ in range(6)]
        assert working.count(True) <= 2
        clock.advance(1)
        assert file.store.care(idle=False) is True
        assert file.store.care(idle=True) is True  # nobody to be considered


def test_a_foreign_lock_is_no_failure_and_not_waited_for(
    file: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    file.settle()
    with foreign(file.path) as other:
        other.execute(
            "INSERT INTO messages (session_id, role, content, timestamp) VALUES ('a', 'u', '外', 1)"
        )
        other.execute("BEGIN IMMEDIATE")
        with caplog.at_level(logging.WARNING):
            assert file.store.care(idle=True) is False
        assert caplog.text == ""
        other.execute("ROLLBACK")
        assert file.store.care(idle=True) is True
    file.care()
    assert file.value("SELECT count(*) FROM sessiond_cjk") == 1


def test_after_a_failure_there_is_a_break(file: Opened, caplog: pytest.LogCaptureFixture) -> None:
    file.settle()
    with foreign(file.path) as other:
        other.execute(
            "INSERT INTO messages (session_id, role, content, timestamp) VALUES ('a', 'u', ?, 1)",
            ("外" * 100_000,),
        )
    limit = file.value("PRAGMA page_count")
    file.rows(f"PRAGMA max_page_count={limit}")
    with caplog.at_level(logging.WARNING, "sessiond.care"):
        for _ in range(5):
            file.care()
    assert len(caplog.records) == 1
    assert "full" in caplog.text
    file.rows("PRAGMA max_page_count=1000000")
    file.clock.advance(9)
    file.care()
    assert file.value("SELECT count(*) FROM sessiond_cjk") == 0
    file.clock.advance(1)
    file.care()
    assert file.value("SELECT count(*) FROM sessiond_cjk") == 1


def test_a_pair_index_that_cannot_be_made_anew_is_left(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("a", *(f"中文{number}" for number in range(300)))
        root = file.value("SELECT rootpage FROM sqlite_schema WHERE name = 'sessiond_cjk_fts_data'")
        size = file.value("PRAGMA page_size")
    with path.open("r+b") as raw:
        raw.seek((root - 1) * size)
        raw.write(b"\xff" * size)
    with opened(path) as file:
        assert file.results(appending("a", "更多")) == [301]
        file.settle()
        assert file.index_state.startswith("pair index damaged")
        assert file.results(appending("a", "再多")) == [302]
        assert file.store.health()["writable"] is True
        assert file.value("SELECT count(*) FROM sessiond_cjk") == 302


def test_a_rebuild_that_was_asked_for_is_made(file: Opened) -> None:
    file.append("a", "中文")
    file.settle()
    assert file.store.rebuild_index() is True
    assert file.store.health()["index"]["state"] == "degraded"
    file.care()
    health = file.store.health()["index"]
    assert (health["state"], health["rebuilds"], health["pairs_behind"]) == ("healthy", 1, 0)
    assert file.check().sound


def test_an_index_of_another_program_is_not_rebuilt(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("DROP TABLE messages_fts")
        other.execute("CREATE VIRTUAL TABLE messages_fts USING fts5(content)")
    file.care()
    assert file.store.rebuild_index() is False


def test_damage_of_the_file_found_between_batches_stops_the_writing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("a", *("text " * 400 for _ in range(100)))
        page = file.value(
            "SELECT pageno FROM dbstat WHERE name = 'messages' AND pagetype = 'leaf'"
            " ORDER BY path LIMIT 1 OFFSET 5"
        )
        size = file.value("PRAGMA page_size")
    with path.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(b"\xff" * size)
    with opened(path) as file:
        file.care()
        health = file.store.health()
        assert health["writable"] is False
        assert "damaged" in health["reason"]
        assert file.store.care(idle=True) is False
