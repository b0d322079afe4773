"""Bursts between a connection and the writer: what is answered, in which order, and counted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from sessiond.batching import BatchLimits, BatchRule
from sessiond.connection import Connection
from sessiond.connection_limits import ConnectionLimits
from sessiond.database import Applied
from sessiond.inbox import Inbox
from sessiond.logs import extras
from sessiond.slow_log import SlowLog
from sessiond.stats import WriterStats
from sessiond.work import Burst, Entry, Work, one_by_one, requests_in
from sessiond.writer import Delivery, Writer
from sessiond_protocol import wire
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import MessageClear
from sessiond_protocol.requests.session import SessionGet
from tests.unit.daemon.sending import CLIENT, OTHER, Peer, burst, frame, sized, texts
from tests.unit.daemon.stores import Opened, appending, with_two_messages


class Bench:
    """A writer on a real store, driven by hand, and what it delivers."""

    def __init__(self, file: Opened, max_requests: int = 1000) -> None:
        self.inbox = Inbox(10_000, 10_000_000)
        self.stats = WriterStats()
        self.deliveries: list[Delivery] = []
        self.writer = Writer(
            self.inbox, file.store, BatchRule(BatchLimits(max_requests, 10_000_000, 0.0, 2)),
            self.stats, deliver=self.deliveries.extend, welcome=lambda *_: None,
            committed=lambda _: None, alarm=lambda _: None,
        )  # fmt: skip

    def turns(self) -> None:
        while self.inbox.requests:
            self.writer.turn(0.0)

    def answers(self, peer: Any) -> list[Any]:
        """``[msgid, error, result]`` of everything that this connection was sent, in order."""
        unpacker = msgpack.Unpacker()
        for each, data, _ in self.deliveries:
            if each is peer:
                unpacker.feed(data)
        return [answer for _, *answer in unpacker]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with with_two_messages(tmp_path / "state.db") as made:
        yield made


# --- the writer --------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 4, 7, 1000])
def test_answers_carry_their_own_msgids_and_ids_in_the_order_sent(file: Opened, most: int) -> None:
    bench, one, other = Bench(file, most), Peer(CLIENT, "one"), Peer(OTHER, "other")
    bench.inbox.put([texts(10, peer=one), texts(5, seq=11, peer=one)])
    bench.inbox.put([texts(5, peer=other, session="t")])
    bench.turns()
    for peer, count, session in ((one, 15, "s"), (other, 5, "t")):
        answers = bench.answers(peer)
        assert [(msgid, error) for msgid, error, _ in answers] == [
            (number, None) for number in range(1, count + 1)
        ]
        assert file.rows(
            "SELECT id, content FROM messages WHERE session_id = ? AND id > 2 ORDER BY id", session
        ) == [(identity, f"n{msgid}") for msgid, _, identity in answers]
    answered = [work for _, _, works in bench.deliveries for work in works]
    assert requests_in(answered) == 20
    assert sum(each.size for each in answered) == sum(
        each.size for each in (texts(10), texts(5, seq=11), texts(5, session="t"))
    )


def test_statistics_count_requests(file: Opened) -> None:
    bench = Bench(file)
    bench.inbox.put([texts(5), texts(3, seq=6)])
    bench.inbox.put([Work(Peer(None), 1, appending("t", "alone"), 0.0, float("inf"), 9)])
    bench.turns()
    snapshot = bench.stats.snapshot()
    assert snapshot["batches"] == 1
    assert snapshot["requests"]["applied"] == 9
    assert (snapshot["batch_size"]["count"], snapshot["batch_size"]["sum"]) == (1, 9)
    assert snapshot["request_seconds"]["message.append"]["count"] == 9


def test_statistics_of_a_burst_that_was_taken_apart(file: Opened) -> None:
    bench = Bench(file)
    made = burst(*(appending(session, "x") for session in ("s", "nobody", "t")))
    bench.inbox.put([made])
    bench.inbox.put([texts(4, seq=4)])
    bench.turns()
    bench.inbox.put([texts(4, seq=4)])
    bench.turns()
    snapshot = bench.stats.snapshot()
    requests = snapshot["requests"]
    assert (requests["applied"], requests["failed"], requests["replayed"]) == (6, 1, 4)
    assert snapshot["batch_size"]["sum"] == 11
    assert snapshot["request_seconds"]["message.append"]["count"] == 11


def test_the_line_of_a_slow_batch_counts_requests(caplog: pytest.LogCaptureFixture) -> None:
    made: list[Entry] = [sized([1] * 5, received=8.0), sized([1] * 3, 6, received=11.9)]
    SlowLog(1.0).batch(Applied(made, [], [], 1, 1, 0.0, 0.0, 0.0), taken=10.0, committed=12.0)
    (line,) = caplog.records
    said = extras(line)
    assert (said["method"], said["batch"], said["slow"]) == ("message.append", 8, 5)
    assert (said["seconds"], said["waited"]) == (4.0, 2.0)


# --- the connection ----------------------------------------------------------------------------

LIMITS = ConnectionLimits(
    max_request_bytes=1_000_000, max_requests=200, max_bytes=1_000_000, max_answer_bytes=1_000_000,
    answer_stall=60.0, frame_stall=60.0, thread_decode_bytes=100_000, default_ttl=1e6, max_ttl=1e6,
)  # fmt: skip


class Transport:
    """Takes everything, and remembers whether it is read from."""

    def __init__(self) -> None:
        self.reading = True
        self.written = b""

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        pass


class Hub:
    """Keeps what a connection hands on."""

    def __init__(self) -> None:
        self.congested = False
        self.writes: list[Entry] = []
        self.reads: list[Work] = []

    def opened(self, _connection: Any) -> bool:
        return True

    def closed(self, _connection: Any) -> None:
        pass

    def stalled(self, _connection: Any) -> None:
        pass

    def submit_writes(self, works: list[Entry]) -> None:
        self.writes += works

    def submit_read(self, work: Work) -> None:
        self.reads.append(work)


class Line:
    """A connection that has said hello, without a socket."""

    def __init__(self) -> None:
        self.hub, self.transport = Hub(), Transport()
        hub: Any = self.hub
        transport: Any = self.transport
        self.connection = Connection(hub, LIMITS)
        self.connection.connection_made(transport)
        self.connection.client_id = CLIENT

    def send(self, *frames: bytes) -> None:
        self.connection.data_received(b"".join(frames))

    @property
    def pending(self) -> tuple[int, int]:
        return (self.connection.pending, self.connection.pending_bytes)

    def kinds(self) -> list[int]:
        """How many requests each thing that was handed on is; 0 for a single one."""
        return [each.count if isinstance(each, Burst) else 0 for each in self.hub.writes]


@pytest.fixture
def line() -> Line:
    return Line()


def append(seq: int, text: str = "x") -> bytes:
    return frame(appending("s", text), 100 + seq, seq)


def test_a_connection_makes_bursts_and_accounts_for_each_request(line: Line) -> None:
    frames = [append(seq) for seq in range(1, 151)]
    line.send(*frames)
    assert line.kinds() == [64, 64, 22]
    assert line.pending == (150, sum(map(len, frames)))
    assert line.connection.requests == 150
    assert [each.seq for each in one_by_one(line.hub.writes)] == list(range(1, 151))
    first, rest = line.hub.writes[0].split(10, 10_000)  # type: ignore[union-attr]
    assert rest is not None
    line.connection.answered(b"a", [first])
    assert line.connection.pending == 140
    line.connection.answered(b"b", [*rest.works(), *line.hub.writes[1:]])
    assert line.pending == (0, 0)
    assert line.transport.written == b"ab"


def test_what_is_between_bursts_keeps_its_place(line: Line) -> None:
    clear = frame(MessageClear("s"), 7, 65)
    line.send(*(append(seq) for seq in range(1, 65)), clear, append(66))
    assert line.kinds() == [64, 0, 0]
    assert [each.seq for each in one_by_one(line.hub.writes)] == list(range(1, 67))


def test_no_more_is_decoded_than_a_connection_may_have_waiting(line: Line) -> None:
    line.send(*(append(seq) for seq in range(1, 302)))
    assert line.connection.pending == 200
    assert not line.transport.reading
    line.connection.answered(b"", line.hub.writes[:1])
    assert line.connection.pending == 200
    assert [each.seq for each in one_by_one(line.hub.writes)] == list(range(1, 265))
    line.connection.answered(b"", line.hub.writes[1:])
    assert line.connection.pending == 37
    assert line.transport.reading


def test_no_more_is_decoded_once_a_connection_has_enough_bytes_waiting(line: Line) -> None:
    """Not even of one piece; the bound is looked at between bursts."""
    frames = [append(seq, "x" * 20_000) for seq in range(1, 101)]
    line.send(*frames)
    assert (line.kinds(), line.pending) == ([64], (64, sum(map(len, frames[:64]))))
    assert not line.transport.reading
    line.connection.answered(b"", line.hub.writes[:1])
    assert (line.kinds(), line.connection.pending) == ([64, 36], 36)


def test_while_the_inbox_is_full_requests_come_one_by_one(line: Line) -> None:
    line.hub.congested = True
    line.send(append(1), append(2), append(3))
    assert (line.kinds(), line.connection.pending) == ([0], 1)


def reading(after: int) -> bytes:
    request: Request[Any] = SessionGet("s")
    return wire.request(9, request.METHOD, wire.pack(request), wire.Place(after=after))


def test_a_read_waits_for_its_number_inside_a_burst(line: Line) -> None:
    line.send(*(append(seq) for seq in range(1, 11)))
    line.send(reading(7))
    (made,) = line.hub.writes
    assert isinstance(made, Burst)
    first, rest = made.split(6, 100_000)
    assert rest is not None
    seventh, last = rest.split(1, 100_000)
    line.connection.answered(b"", [first])
    assert line.hub.reads == []
    line.connection.answered(b"", [seventh])
    assert [each.seq for each in line.hub.reads] == [7]
    assert last is not None
    line.connection.answered(b"", [last])
    assert line.connection.pending == 1  # the read itself


def test_what_is_broken_behind_a_burst_does_not_lose_it(line: Line) -> None:
    line.send(append(1), append(2), b"\xc1")
    assert [each.seq for each in one_by_one(line.hub.writes)] == [1, 2]
    assert line.connection.closed
