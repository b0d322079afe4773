"""Connections that break, daemons and clients that stand still or die: callers only wait."""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sessiond_client import SessionDB
from tests.support.cutting import Cut, CuttingProxy
from tests.support.faults import FaultyDaemon

MESSAGES = 150


@pytest.fixture
def served(faulty: FaultyDaemon) -> FaultyDaemon:
    """A running daemon with one session."""
    faulty.start()
    with SessionDB(**faulty.arguments) as db:
        db.create_session("s", "test")
    return faulty


def contents(daemon: FaultyDaemon) -> list[str]:
    """What is stored, asked on a sound connection."""
    with SessionDB(**daemon.arguments, reads="daemon") as db:
        return [each["content"] for each in db.get_messages("s")]


@pytest.mark.parametrize("answers", [False, True], ids=["requests", "answers"])
@pytest.mark.parametrize("seed", [1, 2])
def test_connections_that_are_cut_inside_messages(
    served: FaultyDaemon, tmp_path: Path, seed: int, answers: bool
) -> None:
    """Hello, requests or answers arrive in part, again and again."""
    chance = random.Random(seed)
    # Hello is some 250 bytes, its answer 300, an append 100 and its answer 9.
    cuts = [Cut(chance.randrange(1, 2500 if not answers else 700), answers) for _ in range(12)]
    with (
        CuttingProxy(tmp_path / "proxy", served.socket, cuts) as proxy,
        SessionDB(served.database, socket=tmp_path / "proxy", autostart=False) as db,
    ):
        waiting = []
        for number in range(MESSAGES):
            waiting.append(db.append_message_nowait("s", "user", f"message {number}"))
            if number % 30 == 29:
                waiting[-1].result()
        ids = [future.result() for future in waiting]
        assert proxy.done >= (4 if answers else 6)
    assert ids == sorted(set(ids))
    assert contents(served) == [f"message {number}" for number in range(MESSAGES)]


def test_a_daemon_that_stands_still_is_waited_for(served: FaultyDaemon) -> None:
    with SessionDB(**served.arguments) as db:
        db.append_message("s", "user", "before")
        served.freeze()
        waiting = [db.append_message_nowait("s", "user", f"message {n}") for n in range(50)]
        blocking = threading.Thread(target=db.append_message, args=("s", "user", "blocking"))
        blocking.start()
        blocking.join(0.2)
        assert blocking.is_alive()
        assert not any(future.done() for future in waiting)
        served.thaw()
        assert [future.result() for future in waiting] == list(range(2, 52))
        blocking.join()
    assert len(contents(served)) == 52


def test_a_daemon_that_stood_still_and_was_replaced(served: FaultyDaemon) -> None:
    """What waits in the sockets of a stopped daemon goes with it and is sent to the next."""
    with SessionDB(**served.arguments) as db:
        served.freeze()
        waiting = [db.append_message_nowait("s", "user", f"message {n}") for n in range(50)]
        served.kill()
        served.start()
        assert [future.result() for future in waiting] == list(range(1, 51))


_CLIENT = """
import sys
from sessiond_client import SessionDB
db = SessionDB(sys.argv[1], socket=sys.argv[2], autostart=False)
number = 0
while True:
    future = db.append_message_nowait("s", "user", f"message {number}")
    number += 1
    if number == 10:
        future.result()
        print("on its way", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_that_dies_or_stops_leaves_a_beginning_of_what_it_sent(
    served: FaultyDaemon, number: signal.Signals
) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, str(served.database), str(served.socket)],
        stdout=subprocess.PIPE,
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == b"on its way\n"
        os.kill(client.pid, number)
        if number == signal.SIGKILL:
            client.wait()
        with SessionDB(**served.arguments) as db:
            assert db.append_message("s", "user", "another client") > 0
    finally:
        client.kill()
        client.wait()
        assert client.stdout is not None
        client.stdout.close()
    served.restart()
    stored = [text for text in contents(served) if text != "another client"]
    assert stored == [f"message {n}" for n in range(len(stored))]
    assert len(stored) >= 10
