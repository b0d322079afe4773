"""Nothing grows without limit, and nobody keeps the others out."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from socket import SHUT_WR

import msgspec
import pytest

from sessiond_client import SessionDB
from tests.support.faults import Faults, FaultyDaemon, path_to_tests
from tests.support.raw import Raw, message

MEBIBYTE = 1 << 20


@contextmanager
def flood(daemon: FaultyDaemon, clients: int, size: int) -> Iterator[subprocess.Popen[str]]:
    """A program that floods the daemon."""
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.support.flood", str(daemon.socket), str(clients), str(size)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **path_to_tests()},
    )  # fmt: skip
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "flooding\n"
        yield program
    finally:
        program.kill()
        program.communicate()


def answered(program: subprocess.Popen[str]) -> int:
    """Let the flood end; how many answers it got."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    return int(program.stdout.readline())


def resident(daemon: FaultyDaemon) -> int:
    """Bytes of memory that a daemon takes now."""
    pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def served(faulty: FaultyDaemon) -> FaultyDaemon:
    """A running daemon with one session."""
    faulty.start_with(Faults(look_seconds=0.05))
    with SessionDB(**faulty.arguments) as db:
        db.create_session("s", "test")
    return faulty


@pytest.mark.parametrize(("size", "most"), [(10, 200), (8_000, 400)], ids=["small", "large"])
def test_memory_stays_flat_while_sixty_four_clients_flood(
    served: FaultyDaemon, size: int, most: int
) -> None:
    """The inbox's bound in requests or in bytes, the page cache, and what Python adds to both."""
    highest = 0
    with flood(served, 64, size) as program, Raw(served.socket) as raw:
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            highest = max(highest, resident(served))
            inbox = raw.ask("server.stats")["inbox"]
            assert inbox["requests"] < 30_000
            assert inbox["bytes"] < 96 * MEBIBYTE
        stored = answered(program)
    assert stored > 1000
    assert highest < most * MEBIBYTE
    with SessionDB(**served.arguments) as db:
        assert db.message_count("s") >= stored


def others_in_between(ids: list[int]) -> int:
    """How many messages of others were stored between two of these, as a rule."""
    gaps = sorted(later - earlier for earlier, later in pairwise(ids))
    return gaps[len(gaps) // 2]


def test_a_single_append_is_served_although_others_fill_the_inbox(served: FaultyDaemon) -> None:
    """It shares the next batch with all who flood, and does not queue behind 20,000."""
    with SessionDB(**served.arguments) as db, flood(served, 64, 10), Raw(served.socket) as raw:
        db.create_session("single", "test")
        while raw.ask("server.stats")["inbox"]["requests"] < 20_000:
            pass
        ids = [db.append_message("single", "user", f"message {n}") for n in range(15)]
    assert others_in_between(ids) <= 6000


def test_a_single_append_is_served_beside_a_bulk_import(faulty: FaultyDaemon) -> None:
    """Counted in messages that others got stored in between, not in seconds.

    First come, first served would put some 5,000 before each, all that the import has waiting.
    """
    faulty.options = ("--batch-max-requests", "100")
    faulty.start()
    with SessionDB(**faulty.arguments) as db:
        db.create_session("s", "test")
        db.create_session("single", "test")
        with flood(faulty, 1, 200), Raw(faulty.socket) as raw:
            while raw.ask("server.stats")["inbox"]["requests"] < 1000:
                pass
            ids = [db.append_message("single", "user", f"message {n}") for n in range(30)]
    assert others_in_between(ids) <= 500


def test_a_peer_that_reads_no_answers_is_cut_off(faulty: FaultyDaemon) -> None:
    faulty.options = ("--answer-stall", "1s", "--answer-max-bytes", "64KiB")
    faulty.start_with(Faults(look_seconds=0.05))
    with Raw(faulty.socket) as deaf, Raw(faulty.socket) as other:
        frames = b"".join(deaf.frame("server.stats") for _ in range(100_000))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            deaf.socket.sendall(frames)
        assert other.ask("server.stats")["connections"] == 1
        assert resident(faulty) < 150 * MEBIBYTE
    assert "cutting off" in faulty.log


def test_connections_are_limited(faulty: FaultyDaemon) -> None:
    faulty.options = ("--max-connections", "5")
    faulty.start()
    taken = [Raw(faulty.socket) for _ in range(5)]
    try:
        for raw in taken:
            raw.ask("server.ping")
        with Raw(faulty.socket) as sixth:
            refused = sixth.answer()
            assert refused is not None
            assert refused.error is not None
            assert refused.error[:2] == ("overloaded", "max_connections 5 are in use")
            assert sixth.answer() is None
        with SessionDB(**faulty.arguments, timeout=10) as db:  # waits until there is room
            taken.pop().socket.close()
            db.create_session("s", "test")
    finally:
        for raw in taken:
            raw.socket.close()


def test_half_closed_with_everything_on_its_way(served: FaultyDaemon) -> None:
    """A program that sends a lot, closes its end, and reads afterwards."""
    with Raw(served.socket) as raw:
        frames = [
            raw.frame("message.append", session_id="s", message=message(f"message {n}"))
            for n in range(3000)
        ]
        raw.socket.sendall(b"".join(frames))
        raw.socket.shutdown(SHUT_WR)
        found = raw.answers()
    assert [each.msgid for each in found] == list(range(1, 3001))
    assert [msgspec.msgpack.decode(each.result) for each in found] == list(range(1, 3001))
