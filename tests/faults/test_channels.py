"""Exactly once, as the wire has it: numbers, receipts, and two connections of one channel."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessiond_protocol import wire
from sessiond_protocol.wire import Place
from tests.support.faults import FaultyDaemon
from tests.support.raw import Raw, message

CLIENT = bytes(range(16))


@pytest.fixture
def served(faulty: FaultyDaemon) -> FaultyDaemon:
    """A running daemon with one session."""
    faulty.start()
    with Raw(faulty.socket) as raw:
        raw.ask("session.create", session_id="s", source="test", started_at=1.0)
    return faulty


def hello(raw: Raw, **more: Any) -> dict[str, Any]:
    """Greet as the channel."""
    answer: dict[str, Any] = raw.ask(
        "server.hello", protocol=wire.PROTOCOL_VERSION, client="test", client_id=CLIENT, **more
    )
    return answer


def append(raw: Raw, seq: int, text: str, floor: int = 1) -> bytes:
    """A numbered append's bytes."""
    place = Place(seq=seq, floor=floor)
    return raw.frame("message.append", place, session_id="s", message=message(text))


def send(raw: Raw, seq: int, text: str, floor: int = 1) -> tuple[str, Any] | Any:
    """Send a numbered append; its id, or its error's code and data."""
    raw.socket.sendall(append(raw, seq, text, floor))
    answer = raw.answer()
    assert answer is not None
    if answer.error is not None:
        return answer.error[0], answer.error[2]
    return int.from_bytes(bytes(answer.result)[-1:], "big")


def stored(raw: Raw) -> list[str]:
    """What the session holds."""
    page = raw.ask("message.page", session_id="s", limit=1000)
    rows = page["rows"]
    while page["more"]:
        page = raw.ask("message.page", session_id="s", after_id=rows[-1]["id"], limit=1000)
        rows += page["rows"]
    return [each["content"] for each in rows]


@pytest.mark.parametrize("restart", [False, True], ids=["same daemon", "next daemon"])
def test_a_number_is_decided_once(served: FaultyDaemon, restart: bool) -> None:
    with Raw(served.socket) as raw:
        assert hello(raw)["known"] is False
        assert [send(raw, seq, f"text {seq}") for seq in (1, 2, 3)] == [1, 2, 3]
    if restart:
        served.kill()
        served.start()
    with Raw(served.socket) as raw:
        welcome = hello(raw)
        assert (welcome["known"], welcome["last"]) == (True, 3)
        assert [send(raw, seq, f"text {seq}") for seq in (2, 3)] == [2, 3]
        assert send(raw, 3, "another text")[0] == "conflict"
        assert send(raw, 5, "a hole") == ("out_of_order", {"applied": False})
        assert send(raw, 4, "text 4") == 4
        # A number below the floor gets no answer: the next one that does belongs to 7.
        raw.socket.sendall(append(raw, 5, "given up", floor=7))
        assert send(raw, 7, "text 7", floor=7) == 5
        assert stored(raw) == ["text 1", "text 2", "text 3", "text 4", "text 7"]
        statuses = [raw.ask("request.status", client_id=CLIENT, seq=seq) for seq in (3, 5, 7, 8)]
        assert statuses == ["unknown", "unknown", "applied", "not_applied"]


def test_a_failure_uses_its_number_up_and_is_remembered(served: FaultyDaemon) -> None:
    with Raw(served.socket) as raw:
        hello(raw)
        for _ in range(2):
            wrong = raw.frame("message.append", Place(seq=1, floor=1), session_id="no",
                              message=message("x"))  # fmt: skip
            raw.socket.sendall(wrong)
            answer = raw.answer()
            assert answer is not None
            assert answer.error is not None
            assert answer.error[0] == "integrity"
            unfit = raw.frame("message.append", Place(seq=2, floor=1), session_id=5, message=1)
            raw.socket.sendall(unfit)
            answer = raw.answer()
            assert answer is not None
            assert answer.error is not None
            assert answer.error[0] == "invalid_params"
        raw.ask("session.create", session_id="no", source="test", started_at=1.0)
        raw.socket.sendall(wrong)
        answer = raw.answer()
        assert answer is not None
        assert answer.error is not None, "decided as failed, it stays failed"
        assert send(raw, 3, "text 3") == 1


def test_a_newer_connection_takes_over_what_the_older_had_not_got_through(
    served: FaultyDaemon,
) -> None:
    """The older one's bytes may still be on their way: whatever was decided is answered once."""
    count = 2000
    with Raw(served.socket) as older, Raw(served.socket) as newer:
        hello(older)
        frames = b"".join(append(older, seq, f"text {seq}") for seq in range(1, count + 1))
        older.socket.setblocking(False)
        sent = older.socket.send(frames)
        assert sent > 0
        last = hello(newer, acked=0, sent=count, floor=1)["last"]
        again = range(last + 1, count + 1)
        newer.socket.sendall(b"".join(append(newer, seq, f"text {seq}") for seq in again))
        for _ in again:
            answer = newer.answer()
            assert answer is not None
            assert answer.error is None
        assert stored(newer) == [f"text {seq}" for seq in range(1, count + 1)]


def test_a_channel_of_a_living_connection_is_not_for_another_process(
    served: FaultyDaemon, tmp_path: Path
) -> None:
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(bytes.fromhex(sys.argv[2])); print(s.recv(4096).hex())"
    )
    with Raw(served.socket) as raw:
        hello(raw)
        arguments = {"protocol": wire.PROTOCOL_VERSION, "client": "other", "client_id": CLIENT}
        frame = wire.request(1, "server.hello", wire.pack(arguments), None)
        done = subprocess.run(
            [sys.executable, "-c", program, str(served.socket), frame.hex()],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        answer = wire.decode_frame(bytes.fromhex(done.stdout))
        assert isinstance(answer, wire.ResponseFrame)
        assert answer.error is not None
        assert answer.error[0] == "conflict"
        assert send(raw, 1, "still ours") == 1
