"""The read pool: what a reader does that finds an index damaged."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from sessiond.reads import ReadPool
from sessiond.stats import ReadStats
from sessiond.work import Work
from sessiond_protocol import wire
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import MessageCount, SearchMessages
from tests.unit.daemon.stores import Opened, Peer, foreign, opened

PATIENCE = 10.0


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        for number in range(50):
            made.append("a", f"apple {number}", f"天气很好 {number}")
        made.settle()
        yield made


class Readers:
    """A pool of one thread, its answers, and what it said of the index."""

    def __init__(self, path: Path) -> None:
        self.damage: list[str] = []
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.pool = ReadPool(
            str(path),
            1,
            ReadStats(),
            lambda _peer, data, _work: self._answers.put(data),
            index_damaged=self.damage.append,
        )

    def ask(self, request: Request[Any]) -> wire.ResponseFrame:
        self.pool.submit(Work(Peer(), 1, request, 0.0, float("inf"), 100))
        reader = wire.FrameReader(1 << 20)
        reader.feed(self._answers.get(timeout=PATIENCE))
        frame = reader.next_frame()
        assert frame is not None
        answer = wire.decode_frame(frame)
        assert isinstance(answer, wire.ResponseFrame)
        return answer

    def found(self, words: str) -> tuple[int, bool]:
        """How many messages a search finds, and whether it had to do without the index."""
        answer = self.ask(SearchMessages(query=words, limit=1000))
        assert answer.error is None
        page = msgpack.unpackb(answer.result)
        return len(page["rows"]), page["degraded"]


@contextmanager
def reading(path: Path) -> Iterator[Readers]:
    made = Readers(path)
    made.pool.start()
    try:
        yield made
    finally:
        made.pool.stop(PATIENCE)


def damage(file: Opened, table: str, where: str = "id > 10") -> None:
    with foreign(file.path) as other:
        other.execute(f"UPDATE {table} SET block = x'00' WHERE {where}")


@pytest.mark.parametrize(
    ("index", "words"), [("messages_fts", "apple"), ("sessiond_cjk_fts", "天气")]
)
def test_a_damaged_index_costs_no_hit_and_is_made_anew(
    file: Opened, index: str, words: str
) -> None:
    with reading(file.path) as readers:
        assert readers.found(words) == (50, False)
        damage(file, f"{index}_data")
        assert readers.found(words) == (50, True)
        (text,) = readers.damage
        file.store.index_unreadable(text)
        file.settle()
        assert file.index_state == ""
        assert readers.found(words) == (50, False)
        assert len(readers.damage) == 1
        assert file.check().counts.keys() <= {"counter"}


def test_what_no_index_can_help_is_an_error_and_no_damage_of_one(file: Opened) -> None:
    damage(file, "messages_fts_data")
    with foreign(file.path) as other:
        other.execute("PRAGMA writable_schema = ON")
        # A root page that is none: the table itself cannot be read.
        other.execute("UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'messages'")
        other.execute("PRAGMA schema_version = 12345")
    with reading(file.path) as readers:
        answer = readers.ask(SearchMessages(query="apple", limit=1000))
        assert answer.error is not None
        assert answer.error[0] == "database"
        assert readers.damage == []


def test_other_reads_go_on(file: Opened) -> None:
    damage(file, "messages_fts_data")
    with reading(file.path) as readers:
        assert msgpack.unpackb(readers.ask(MessageCount()).result) == 100
        assert readers.damage == []
