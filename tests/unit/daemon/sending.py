"""What a connection makes of requests that came in one piece: bursts where that is possible."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sessiond.bursts import burst_of
from sessiond.database import Applied
from sessiond.decoding import decode_work
from sessiond.work import Appended, Burst, Entry, Fate, Work
from sessiond_protocol import wire
from sessiond_protocol.receipts import digests
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import MessageAppend
from tests.unit.daemon.stores import appending

CLIENT = bytes(16)
OTHER = b"\1" * 16
FOREVER = float("inf")


class Peer:
    """A connection, by name, that said hello."""

    closed = False

    def __init__(self, client_id: bytes | None = CLIENT, name: str = "peer") -> None:
        self.client_id = client_id
        self.name = name


PEER = Peer()


def frame(request: Request[Any], msgid: int, seq: int | None, **place: Any) -> bytes:
    """A request as it is on the wire."""
    return wire.request(msgid, request.METHOD, wire.pack(request), wire.Place(seq=seq, **place))


def cut(frames: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """The frames as they come out of a stream, in one piece."""
    reader = wire.FrameReader(10_000_000)
    reader.feed(b"".join(frames))
    data, sizes = reader.next_frames(len(frames))
    assert len(sizes) == len(frames)
    return data, sizes


def maybe_burst(
    frames: Sequence[bytes],
    peer: Peer = PEER,
    received: float = 0.0,
    default_ttl: float = FOREVER,
    max_ttl: float = FOREVER,
) -> Burst | None:
    data, sizes = cut(frames)
    decoded = wire.decode_frames(data, sizes)
    return burst_of(peer, decoded, sizes, received, default_ttl, max_ttl)


def singly(
    frames: Sequence[bytes],
    peer: Peer = PEER,
    received: float = 0.0,
    default_ttl: float = FOREVER,
    max_ttl: float = FOREVER,
) -> list[Work]:
    """Every frame looked at by itself."""
    data, sizes = cut(frames)
    works = []
    for each, size in zip(wire.decode_frames(data, sizes), sizes, strict=True):
        assert isinstance(each, wire.AnyRequestFrame)
        works.append(decode_work(peer, each, size, received, default_ttl, max_ttl))
    return works


def entries(frames: Sequence[bytes], peer: Peer = PEER) -> list[Entry]:
    """What goes into the inbox of frames that came in one piece."""
    burst = maybe_burst(frames, peer)
    return [*singly(frames, peer)] if burst is None else [burst]


def burst(*requests: Request[Any], seq: int = 1, peer: Peer = PEER, **place: Any) -> Burst:
    """Appends under numbers from ``seq`` on; their message ids are the same numbers."""
    made = maybe_burst(
        [frame(each, number, number, **place) for number, each in enumerate(requests, seq)], peer
    )
    assert made is not None
    return made


def texts(count: int, seq: int = 1, session: str = "s", **options: Any) -> Burst:
    """A burst of texts that are named by their numbers."""
    appends = [appending(session, f"n{number}") for number in range(seq, seq + count)]
    return burst(*appends, seq=seq, **options)


def sized(sizes: list[int], seq: int = 1, peer: Peer = PEER, received: float = 0.0) -> Burst:
    """A burst of appends that count for so many bytes each."""
    appends = [appending("s", f"n{number}") for number in range(seq, seq + len(sizes))]
    count, numbers = len(sizes), list(range(seq, seq + len(sizes)))
    identities = digests(MessageAppend.METHOD, map(wire.pack, appends))
    return Burst(
        peer, numbers, appends, received, sizes, seq, [1] * count, identities, [FOREVER] * count
    )


def fields(work: Work) -> dict[str, Any]:
    """Everything that is known of a request."""
    return {name: getattr(work, name) for name in Work.__slots__}


Told = tuple[int, Fate, Any, Any]


def told(applied: Applied) -> list[Told]:
    """What every request is told: its message id, how it ended, its result and its error."""
    made: list[Told] = []
    for work, outcome in zip(applied.works, applied.outcomes, strict=True):
        if isinstance(outcome, Appended):
            assert isinstance(work, Burst)
            answers = outcome.answers(work.msgids)
            made += [(msgid, outcome.fate, result, error) for _, msgid, error, result in answers]
        else:
            assert isinstance(work, Work)
            result = None if outcome.result is None else msgspec.msgpack.decode(outcome.result)
            made.append((work.msgid, outcome.fate, result, outcome.error))
    return made
