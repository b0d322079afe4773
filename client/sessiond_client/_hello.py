"""How a client takes up its channel on a new connection."""

import os
from typing import Final

import msgspec

from sessiond_client import _errors as errors
from sessiond_protocol import wire
from sessiond_protocol.channel import ClientChannel
from sessiond_protocol.requests.server import ServerHello, Welcome

_encode = msgspec.msgpack.Encoder().encode
_decode_welcome = msgspec.msgpack.Decoder(Welcome).decode


HELLO: Final = 0  # the message id of the first request of a connection

# Until the first hello is answered the daemon's own limit is not known.
ASSUMED_MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024


def hello(channel: ClientChannel, client_id: bytes, database: str, program: str) -> bytes:
    """The first request of a connection."""
    request = ServerHello(
        protocol=wire.PROTOCOL_VERSION,
        client=program,
        client_id=client_id,
        pid=os.getpid(),
        database=database,
        acked=channel.acked,
        sent=channel.sent,
        floor=channel.floor,
    )
    return wire.request(HELLO, request.METHOD, _encode(request), None)


def read_welcome(message: wire.ResponseFrame) -> Welcome:
    """Hello's answer; raises why this daemon is not one to talk to."""
    if message.error is not None:
        raise errors.from_wire(message.error)
    try:
        welcome = _decode_welcome(message.result)
    except msgspec.DecodeError as error:
        raise wire.FrameError(f"hello's answer does not fit: {error}") from error
    if welcome.protocol != wire.PROTOCOL_VERSION:
        raise errors.UnknownMethod(
            f"the daemon speaks protocol {welcome.protocol},"
            f" this library speaks {wire.PROTOCOL_VERSION}: update the older one"
        )
    return welcome
