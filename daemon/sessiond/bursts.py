"""Appends that came in one piece, as one.

A client that does not wait for each answer sends many appends at once. Taken by itself, each
costs more in Python, for what is made and passed on, than SQLite takes to store it.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from sessiond.work import Burst
from sessiond_protocol import wire
from sessiond_protocol.receipts import digests
from sessiond_protocol.requests.message import MessageAppend

_METHOD: Final = wire.pack(MessageAppend.METHOD)
_decode_appends = msgspec.msgpack.Decoder(list[MessageAppend]).decode


def burst_of(
    peer: Any,
    frames: Iterable[wire.Frame],
    sizes: list[int],
    received: float,
    default_ttl: float,
    max_ttl: float,
) -> Burst | None:
    """All these frames of a connection as a burst; None if one of them needs a look of its own.

    ``sizes`` are bytes, the times seconds.
    """
    if peer.client_id is None or not isinstance(frames, list):
        return None
    if not isinstance(frames[0], wire.PlacedFrame):
        return None  # frames that were decoded together are of one kind
    places = [frame.params[1] for frame in frames]
    first = places[0].seq
    if first is None or [place.seq for place in places] != list(range(first, first + len(places))):
        return None
    if any(bytes(frame.method) != _METHOD for frame in frames):
        return None
    arguments = [frame.params[0] for frame in frames]
    try:
        requests = _decode_appends(wire.array_of(arguments))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Burst(
        peer,
        [frame.msgid for frame in frames],
        requests,
        received,
        sizes,
        first,
        [place.floor or 0 for place in places],
        digests(MessageAppend.METHOD, arguments),
        [min(default_ttl if place.ttl is None else place.ttl, max_ttl) for place in places],
    )
