"""Memory goes back to the system once it is quiet after a load."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from sessiond.sqlite.releasing import WORTH_BYTES, Releasing, trim
from tests.unit.daemon.stores import Opened, opened


class Memory:
    """What a process holds, as far as it is asked."""

    def __init__(self) -> None:
        self.held = 40 << 20
        self.trims = 0

    def grow(self, held: int) -> None:
        self.held += held

    def trim(self) -> None:
        self.trims += 1
        self.held = 45 << 20


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("a", "start")
        yield made


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def releasing(file: Opened, memory: Memory) -> Releasing:
    return Releasing(
        file.store.access, file.clock, resident=lambda: memory.held, give_back=memory.trim
    )


def load(file: Opened, memory: Memory, grown: int = WORTH_BYTES) -> None:
    file.append("a", "more")
    memory.grow(grown)


def test_after_a_quiet_second(file: Opened, memory: Memory, releasing: Releasing) -> None:
    load(file, memory)
    for _ in range(4):
        assert not releasing.step()
        assert memory.trims == 0
        file.clock.advance(0.25)
    assert not releasing.step()
    assert memory.trims == 1


def test_the_page_cache_is_part_of_it(file: Opened, memory: Memory, releasing: Releasing) -> None:
    def cached() -> int:
        return file.connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)[0]

    file.append("a", *("text " * 2000 for _ in range(50)))
    memory.grow(WORTH_BYTES)
    before = cached()
    releasing.step()
    file.clock.advance(1)
    releasing.step()
    assert cached() < before / 4
    assert file.check().sound
    file.append("a", "goes on")
    assert file.found("goes") == [file.value("SELECT max(id) FROM messages")]


def test_not_while_others_write(file: Opened, memory: Memory, releasing: Releasing) -> None:
    for _ in range(10):
        load(file, memory)
        releasing.step()
        file.clock.advance(0.9)
    assert memory.trims == 0


def test_not_for_a_little(file: Opened, memory: Memory, releasing: Releasing) -> None:
    load(file, memory, WORTH_BYTES - 1)
    releasing.step()
    file.clock.advance(5)
    releasing.step()
    assert memory.trims == 0


def test_once_for_each_load(file: Opened, memory: Memory, releasing: Releasing) -> None:
    for loads in (1, 2):
        load(file, memory)
        for _ in range(4):
            releasing.step()
            file.clock.advance(2)
        assert memory.trims == loads


def test_never_without_writes(file: Opened, memory: Memory, releasing: Releasing) -> None:
    memory.grow(10 * WORTH_BYTES)
    for _ in range(4):
        file.clock.advance(5)
        releasing.step()
    assert memory.trims == 0


def test_the_c_library_is_asked() -> None:
    trim()
