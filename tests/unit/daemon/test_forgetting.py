"""Which channels are forgotten, and when."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond.sqlite.forgetting import ROUND_SECONDS, Forgetting
from sessiond.sqlite.receipts import Channels
from sessiond_protocol.channel import ChannelRun
from sessiond_protocol.errors import Failure
from sessiond_protocol.receipts import Receipt
from tests.unit.daemon.stores import Clock, Opened, opened

HOUR, DAY = 3_600.0, 86_400.0
NIL = msgspec.Raw(msgspec.msgpack.encode(None))


def client(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Daemon:
    """What forgets, its two clocks, and who is connected."""

    def __init__(self, file: Opened, max_rows: int = 10_000) -> None:
        self.file = file
        self.up = Clock()
        self.wall = Clock()
        self.wall.now = 1_700_000_000.0
        self.connected: set[bytes] = set()
        self.channels = Channels(file.connection, max_rows)
        self.forgetting = Forgetting(
            file.store.access, self.channels, lambda: self.connected, self.up, self.wall
        )

    def write(self, *numbers: int) -> None:
        """A write of each of these channels is committed."""
        for number in numbers:
            run = ChannelRun(self.channels.get(client(number)))
            run.decide(Receipt(run.next, bytes(8), None, NIL))
            self.channels.write([(client(number), run)], self.wall.now)
            self.channels.absorb([(client(number), run)])

    def pass_time(self, up: float, wall: float | None = None) -> None:
        """Time goes by while the writer looks around now and then; only ``up`` is proof."""
        self.wall.advance(up if wall is None else wall)
        for _ in range(int(up // ROUND_SECONDS)):
            self.up.advance(ROUND_SECONDS)
            self.round()
        self.up.advance(up % ROUND_SECONDS)
        self.round()

    def round(self) -> None:
        while self.forgetting.step():
            pass

    @property
    def known(self) -> set[int]:
        found = self.file.rows("SELECT client FROM sessiond_clients")
        return {int.from_bytes(each, "big") for (each,) in found}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        yield made


@pytest.fixture
def daemon(file: Opened) -> Daemon:
    return Daemon(file)


def test_a_channel_is_forgotten_after_a_day_without_a_connection(daemon: Daemon) -> None:
    daemon.write(1)
    daemon.pass_time(DAY - HOUR)
    daemon.write(2)
    daemon.pass_time(HOUR + 120)
    assert daemon.known == {2}
    assert daemon.forgetting.forgotten == 1
    assert daemon.file.value("SELECT count(*) FROM sessiond_receipts") == 1
    assert not daemon.channels.get(client(1)).known


def test_a_connection_that_writes_nothing_holds_its_row(daemon: Daemon) -> None:
    daemon.write(1)
    daemon.connected = {client(1)}
    daemon.pass_time(3 * DAY)
    assert daemon.known == {1}
    daemon.connected = set()
    daemon.pass_time(DAY - 2 * HOUR)  # counted from when it went, not from its last write
    assert daemon.known == {1}
    daemon.pass_time(3 * HOUR)
    assert daemon.known == set()


def test_a_new_daemon_waits_an_hour_of_its_own(daemon: Daemon) -> None:
    daemon.write(1)
    daemon.wall.advance(10 * DAY)
    again = Daemon(daemon.file)
    again.wall.now = daemon.wall.now
    again.pass_time(HOUR - 120)
    assert again.known == {1}
    again.pass_time(300)
    assert again.known == set()


def test_a_clock_that_was_set_is_no_proof(daemon: Daemon) -> None:
    daemon.pass_time(2 * HOUR)
    daemon.write(1)
    daemon.pass_time(600, wall=30 * DAY)
    assert daemon.known == {1}


def test_a_connection_between_two_looks_counts(daemon: Daemon) -> None:
    """A command that ran for a moment was here, although no look has seen it."""
    daemon.write(1)
    daemon.pass_time(2 * HOUR)
    daemon.channels.get(client(1))  # hello
    daemon.pass_time(600, wall=30 * DAY)
    assert daemon.known == {1}


def test_a_time_from_the_future_counts_as_now(daemon: Daemon) -> None:
    daemon.wall.advance(100 * DAY)
    daemon.write(1)
    daemon.wall.advance(-100 * DAY)
    daemon.pass_time(2 * DAY)
    assert daemon.known == {1}


def test_nothing_is_written_when_there_is_nothing_to_do(daemon: Daemon) -> None:
    daemon.write(1, 2)
    daemon.connected = {client(2)}
    commits = daemon.file.store.commits
    daemon.pass_time(HOUR - 120)
    assert daemon.file.store.commits == commits


def test_many_rows_are_gone_through_in_slices(daemon: Daemon) -> None:
    daemon.write(*range(1, 1202))
    daemon.connected = {client(600)}
    daemon.pass_time(2 * HOUR)
    daemon.wall.advance(2 * DAY)
    daemon.up.advance(ROUND_SECONDS)
    before, turns = len(daemon.known), 0
    while daemon.forgetting.step():
        turns += 1
        assert before - len(daemon.known) <= 500
        before = len(daemon.known)
    assert turns == 2
    assert daemon.known == {600}


def test_memory_is_kept_for_the_connected_only(daemon: Daemon) -> None:
    daemon.write(1, 2)
    kept = daemon.channels.get(client(2))
    dropped = daemon.channels.get(client(1))
    daemon.connected = {client(2)}
    daemon.pass_time(120)
    assert daemon.channels.get(client(2)) is kept
    assert daemon.channels.get(client(1)) is not dropped


# --- room --------------------------------------------------------------------------------------


def test_room_is_made_by_those_absent_for_an_hour(file: Opened) -> None:
    daemon = Daemon(file, max_rows=4)
    daemon.write(1)
    daemon.pass_time(600)
    daemon.write(2, 3)
    daemon.connected = {client(3)}
    daemon.pass_time(2 * HOUR)
    daemon.write(4)
    with pytest.raises(Failure):
        daemon.channels.admit(client(5))
    daemon.round()
    assert daemon.known == {3, 4}  # connected, and used just now
    daemon.channels.admit(client(5))


def test_nobody_makes_room_who_was_just_here(file: Opened) -> None:
    daemon = Daemon(file, max_rows=2)
    daemon.pass_time(2 * HOUR)
    daemon.write(1, 2)
    for _ in range(3):
        with pytest.raises(Failure):
            daemon.channels.admit(client(3))
        daemon.pass_time(60)
    assert daemon.known == {1, 2}
