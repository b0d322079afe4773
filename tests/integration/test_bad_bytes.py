"""Bytes that are not requests: one error, a close, and nobody else notices."""

import struct
from pathlib import Path
from socket import AF_UNIX, SHUT_WR
from socket import socket as Socket  # noqa: N812 (a property of Daemon is called socket)

import msgpack
import pytest

from sessiond_client import SessionDB
from sessiond_protocol import wire
from tests.support.daemon import Daemon, running

PATIENCE = 10.0


def exchange(path: Path, data: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes and read until the daemon closes."""
    with Socket(AF_UNIX) as connected:
        connected.settimeout(PATIENCE)
        connected.connect(str(path))
        connected.sendall(data)
        if half_close:
            connected.shutdown(SHUT_WR)
        received = b""
        while piece := connected.recv(65_536):
            received += piece
    return received


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xc1",
        b"\x00",
        msgpack.packb({"jsonrpc": "2.0"}),
        msgpack.packb([0, 1, "session.count"]),
        msgpack.packb([3, 1, "session.count", []]),
        msgpack.packb([0, "one", "session.count", []]),
        msgpack.packb([0, 1, "session.count", {}]),
        b"\x94\x00" + b"\xc1",
    ],
)
def test_garbage_gets_one_error_and_a_close(daemon: Daemon, data: bytes) -> None:
    frame = msgpack.unpackb(exchange(daemon.socket, data))
    assert frame[0] == 1
    assert frame[2][0] == "invalid_params"
    assert "MessagePack" in frame[2][1]
    with SessionDB(**daemon.arguments) as db:
        assert db.session_count() >= 0


@pytest.mark.parametrize("size", [1, 5, 30])
def test_half_a_frame_and_a_half_close(daemon: Daemon, size: int) -> None:
    whole = wire.request(1, "session.count", wire.pack({}), None)
    assert exchange(daemon.socket, whole[:size] if size < len(whole) else whole[:-1],
                    half_close=True) == b""  # fmt: skip


def test_what_was_read_before_a_half_close_is_answered(daemon: Daemon) -> None:
    frames = b"".join(
        wire.request(number, "session.count", wire.pack({}), None) for number in range(50)
    )
    unpacker = msgpack.Unpacker()
    unpacker.feed(exchange(daemon.socket, frames, half_close=True))
    assert sorted(frame[1] for frame in unpacker) == list(range(50))


def test_huge_declared_lengths_cost_nothing(daemon: Daemon) -> None:
    for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6"):
        assert exchange(daemon.socket, head + struct.pack(">I", 2**32 - 1), half_close=True) == b""


def test_text_that_is_not_utf8_is_refused_by_field(daemon: Daemon) -> None:
    arguments = b"\x81\xaasession_id\xa2\xff\xfe"
    broken = wire.request(1, "session.get", arguments, None)
    sound = wire.request(2, "session.count", wire.pack({}), None)
    unpacker = msgpack.Unpacker()
    unpacker.feed(exchange(daemon.socket, broken + sound, half_close=True))
    answers = {frame[1]: frame for frame in unpacker}
    assert answers[1][2][0] == "invalid_params"
    assert "session_id" in answers[1][2][1]
    assert answers[2][2] is None


def test_half_a_message_that_does_not_grow_ends_the_connection(tmp_path: Path) -> None:
    for daemon in running(tmp_path, "--frame-stall", "1s"):
        answer = msgpack.unpackb(exchange(daemon.socket, b"\x94\x00\x01"))
        assert "did not grow" in answer[2][1]


def test_a_request_over_the_limit(tmp_path: Path) -> None:
    for daemon in running(tmp_path, "--max-request-bytes", "64KiB"):
        with SessionDB(**daemon.arguments) as db:
            db.create_session("large", "test")
            with pytest.raises(ValueError, match="exceeds max_request_bytes 65536"):
                db.append_message("large", "user", "x" * 70_000)
            assert db.append_message("large", "user", "x" * 60_000) > 0
        frame = wire.request(1, "session.get", wire.pack({"session_id": "x" * 100_000}), None)
        answer = msgpack.unpackb(exchange(daemon.socket, frame))
        assert answer[2][0] == "too_large"
        assert "exceeds max_request_bytes 65536" in answer[2][1]
