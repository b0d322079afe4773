"""Channels in the database: what a new daemon finds of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.sqlite.receipts import Channels
from sessiond_protocol import schema
from sessiond_protocol.channel import ChannelRun, ServerChannel, Verdict
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.receipts import Receipt, digest
from tests.unit.daemon.stores import Opened, opened

CLIENT = bytes(16)
OTHER = b"\1" * 16
IDENTITY = digest("message.append", b"")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        yield made


@pytest.fixture
def channels(file: Opened) -> Channels:
    return Channels(file.connection)


def receipt(seq: int, result: Any = None, error: Any = None) -> Receipt:
    return Receipt(seq, IDENTITY, error, msgspec.Raw(msgspec.msgpack.encode(result)))


def batch(
    channels: Channels, client_id: bytes, floor: int, *receipts: Receipt, now: float = 5.0
) -> None:
    """Decide these as one batch, and commit it (each statement by itself is enough here)."""
    run = ChannelRun(channels.get(client_id))
    for each in receipts:
        assert run.judge(each.seq, floor, each.digest) is Verdict.DECIDE
        run.decide(each)
    channels.write([(client_id, run)], now)
    channels.absorb([(client_id, run)])


def state(channel: ServerChannel) -> tuple[Any, ...]:
    receipts = {
        seq: (each.error, bytes(each.result))
        for seq in channel.receipts
        if (each := channel.receipt(seq)) is not None
    }
    return (channel.last, channel.floor, channel.known, receipts, channel.answer_bytes)


def rows(file: Opened) -> list[tuple[Any, ...]]:
    return file.rows("SELECT client, last_seq, first_seq FROM sessiond_receipts ORDER BY 1, 2")


def test_an_unknown_channel_is_new_and_leaves_no_row(file: Opened, channels: Channels) -> None:
    assert state(channels.get(CLIENT)) == (0, 1, False, {}, 0)
    channels.write([(CLIENT, ChannelRun(channels.get(CLIENT)))], 5.0)
    assert file.value("SELECT count(*) FROM sessiond_clients") == 0


def test_a_new_daemon_finds_what_was_decided(file: Opened, channels: Channels) -> None:
    batch(channels, CLIENT, 1, receipt(1, 10), receipt(2, 11))
    batch(channels, CLIENT, 1, receipt(3, error=("integrity", "no", {"session_id": "s"})))
    batch(channels, OTHER, 1, receipt(1, "text"))
    again = Channels(file.connection)
    assert state(again.get(CLIENT)) == state(channels.get(CLIENT))
    assert state(again.get(OTHER)) == state(channels.get(OTHER))
    assert again.get(CLIENT).status(3) == "failed"


def test_one_row_per_batch_and_none_below_the_floor(file: Opened, channels: Channels) -> None:
    batch(channels, CLIENT, 1, receipt(1), receipt(2))
    batch(channels, CLIENT, 1, receipt(3), receipt(4))
    assert rows(file) == [(CLIENT, 2, 1), (CLIENT, 4, 3)]
    batch(channels, CLIENT, 4, receipt(5))  # 3 is confirmed, 4 in the same row is not
    assert rows(file) == [(CLIENT, 4, 3), (CLIENT, 5, 5)]
    assert sorted(Channels(file.connection).get(CLIENT).receipts) == [4, 5]
    batch(channels, CLIENT, 6, receipt(6))
    assert rows(file) == [(CLIENT, 6, 6)]


def test_a_row_says_when_its_channel_last_decided(file: Opened, channels: Channels) -> None:
    batch(channels, CLIENT, 1, receipt(1), now=5.0)
    batch(channels, CLIENT, 2, receipt(2), now=7.5)
    assert file.rows("SELECT last, floor, last_seen FROM sessiond_clients") == [(2, 2, 7.5)]


def test_what_is_forgotten_is_read_again(channels: Channels) -> None:
    batch(channels, CLIENT, 1, receipt(1))
    batch(channels, OTHER, 1, receipt(1))
    before = channels.get(CLIENT), channels.get(OTHER)
    channels.keep_only({OTHER})
    assert channels.get(OTHER) is before[1]
    assert channels.get(CLIENT) is not before[0]
    assert state(channels.get(CLIENT)) == state(before[0])
    channels.forget(OTHER)
    assert channels.get(OTHER) is not before[1]


def test_after_another_history_nothing_is_remembered(file: Opened, channels: Channels) -> None:
    batch(channels, CLIENT, 1, receipt(1))
    file.rows("DELETE FROM sessiond_clients")
    assert channels.get(CLIENT).known
    channels.clear()
    assert not channels.get(CLIENT).known


def test_a_new_channel_is_refused_when_there_is_no_room(file: Opened) -> None:
    channels = Channels(file.connection, max_rows=2)
    for client_id in (CLIENT, OTHER):
        channels.admit(client_id)
        batch(channels, client_id, 1, receipt(1))
    assert not channels.crowded
    with pytest.raises(Failure, match="2 channels are remembered already") as caught:
        channels.admit(b"\2" * 16)
    assert caught.value.code is Code.OVERLOADED
    assert channels.crowded
    assert channels.admit(OTHER).known  # whoever has a row has room


def test_a_removed_channel_is_gone_with_its_receipts(file: Opened, channels: Channels) -> None:
    batch(channels, CLIENT, 1, receipt(1))
    batch(channels, OTHER, 1, receipt(1))
    channels.remove([CLIENT])
    channels.forget(CLIENT)
    assert not channels.get(CLIENT).known
    assert rows(file) == [(OTHER, 1, 1)]


def test_ages_come_in_pages(channels: Channels) -> None:
    ids = [bytes([each]) * 16 for each in range(5)]
    for place, client_id in enumerate(ids):
        batch(channels, client_id, 1, receipt(1), now=float(place))
    assert channels.ages(b"", 3) == [(ids[0], 0.0), (ids[1], 1.0), (ids[2], 2.0)]
    assert channels.ages(ids[2], 3) == [(ids[3], 3.0), (ids[4], 4.0)]
    channels.seen(ids[3:], 9.0)
    assert channels.ages(ids[2], 3) == [(ids[3], 9.0), (ids[4], 9.0)]


steps = st.lists(
    st.tuples(
        st.integers(0, 4),  # how many are decided together
        st.integers(0, 3),  # how many of them have been confirmed
        st.booleans(),  # whether the numbers before were given up
        st.sampled_from([None, 7, "text"]),
    ),
    max_size=8,
)


@given(steps)
def test_memory_and_file_always_agree(steps: list[tuple[int, int, bool, Any]]) -> None:
    with in_memory() as channels:
        next_seq, floor = 1, 1
        for count, confirmed, gap, result in steps:
            floor = min(floor + confirmed, next_seq)
            if gap:
                next_seq += 2
                floor = next_seq
            made = [receipt(next_seq + each, result) for each in range(count)]
            batch(channels, CLIENT, floor, *made)
            next_seq += count
            again = Channels(channels.connection).get(CLIENT)
            known = channels.get(CLIENT)
            assert again.last == known.last or not made
            if made:
                assert state(again) == state(known)


class Recalled(Channels):
    """Channels whose connection the test may look at."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self.connection = connection


@contextmanager
def in_memory() -> Iterator[Recalled]:
    """A database for each example; only the two tables are needed."""
    connection = apsw.Connection(":memory:")
    try:
        for name in ("sessiond_clients", "sessiond_receipts"):
            connection.execute(schema.SIDE_TABLES[name])
        yield Recalled(connection)
    finally:
        connection.close()
