"""Every way to stop: what was accepted is answered, what was answered is there."""

import os
import signal
import threading
from socket import MSG_PEEK

import msgspec
import pytest

from sessiond_client import SessionDB
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State
from tests.support import old_files
from tests.support.faults import CHECKPOINT, Faults, FaultyDaemon
from tests.support.foreign import Foreign, run
from tests.support.raw import Raw, message

MESSAGES = 400


@pytest.fixture
def served(faulty: FaultyDaemon) -> FaultyDaemon:
    """A running daemon with one session."""
    faulty.start()
    with SessionDB(**faulty.arguments) as db:
        db.create_session("s", "test")
    return faulty


def test_everything_that_was_accepted_is_answered(served: FaultyDaemon) -> None:
    """Once the first answer is here, all that came before SIGTERM was read."""
    with Raw(served.socket) as raw:
        frames = [
            raw.frame("message.append", session_id="s", message=message(f"message {number}"))
            for number in range(MESSAGES)
        ]
        raw.socket.sendall(b"".join(frames))
        assert raw.socket.recv(1, MSG_PEEK)
        served.stop()
        found = raw.answers()
    assert [each.msgid for each in found] == list(range(1, len(found) + 1))
    assert [each.error for each in found] == [None] * len(found)
    served.start()
    with SessionDB(**served.arguments) as db:
        assert db.message_count("s") == len(found)
        assert [each["id"] for each in db.get_messages("s")] == [
            msgspec.msgpack.decode(each.result) for each in found
        ]


def test_a_client_of_the_library_does_not_notice(served: FaultyDaemon) -> None:
    with SessionDB(**served.arguments) as db:
        waiting = []
        for turn in range(3):
            waiting += [db.append_message_nowait("s", "user", f"{turn} {n}") for n in range(200)]
            served.restart()
        ids = [future.result() for future in waiting]
        assert ids == sorted(set(ids))
        assert db.message_count("s") == 600
    state = state_file.read(paths.state_file(str(served.database)))
    assert state is not None
    assert state.state is State.SERVING


def test_a_second_signal_does_not_wait(served: FaultyDaemon) -> None:
    """The writer hangs behind another program's lock; what was answered is safe in any case."""
    program = "c = connect(); c.execute('BEGIN IMMEDIATE'); pause(); c.close()"
    with (
        Foreign(program, served.database) as other,
        SessionDB(**served.arguments, timeout=20) as db,
    ):
        other.wait_for_pause()
        waiting = db.append_message_nowait("s", "user", "cannot be stored yet")
        with Raw(served.socket) as raw:
            while not any(each["pending"] for each in raw.ask("server.stats")["clients"]):
                pass
        os.kill(served.pid, signal.SIGTERM)
        while "stopping" not in served.log:
            pass
        os.kill(served.pid, signal.SIGTERM)
        assert served.await_end() == 0
        other.finish()
        served.start()
        assert waiting.result() == 1


def test_a_migration_ends_its_step_and_goes_on_next_time(faulty: FaultyDaemon) -> None:
    old_files.make(faulty.database, 1)
    faulty.launch_with(Faults(stop_at="v4: titles"))
    assert faulty.await_end() == 0
    faulty.start_with(Faults())
    with SessionDB(**faulty.arguments) as db:
        assert db.session_count() > 0
        db.create_session("s", "test")


@pytest.mark.parametrize("step", ["before commit", "between runs"])
def test_a_signal_inside_a_transaction(faulty: FaultyDaemon, step: str) -> None:
    faulty.start_with(Faults(stop_at=step, times=3, trip="trip"))
    with SessionDB(**faulty.arguments) as db:
        db.create_session("s", "test")
        reviver = faulty.revive(Faults(trip="trip"))
        waiting = []
        for number in range(60):
            waiting.append(db.append_message_nowait("s", "user", f"message {number}"))
            if number % 10 == 0:
                db.append_message_nowait("s", "user", "trip").exception()
        assert [future.exception() for future in waiting] == [None] * 60
        reviver.join()
        assert db.message_count("s") == 60
    assert faulty.statuses == [0]


@pytest.mark.parametrize("faults", [Faults(stop_at="before commit", times=3),
                                    Faults(crash="before commit", times=3)],
                         ids=["stopped", "killed"])  # fmt: skip
def test_a_rebuild_of_the_index_goes_on_next_time(faulty: FaultyDaemon, faults: Faults) -> None:
    faulty.start()
    with SessionDB(**faulty.arguments, reads="daemon") as db:
        db.create_session("s", "test")
        texts = [{"role": "user", "content": f"word{n} and 漢字{n}"} for n in range(5000)]
        db.append_messages("s", texts)
        faulty.stop()
        run("c = connect(); c.execute('DROP TABLE messages_fts'); c.close()", faulty.database)
        slices = msgspec.structs.replace(faults, rebuild_at_once=0)
        faulty.start_with(slices)
        assert faulty.await_end() == (0 if faults.stop_at else -9)
        faulty.start_with(Faults(rebuild_at_once=0))
        while db.get_stats()["index"]["state"] != "healthy":
            pass
        assert [hit["id"] for hit in db.search_messages("word4321")] == [4322]
        faulty.stop()
    check = "INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)"
    run(f"c = connect(); c.execute({check!r}); c.close()", faulty.database)


@pytest.mark.parametrize("faults", [Faults(stop_at=CHECKPOINT, times=3),
                                    Faults(crash=CHECKPOINT, times=3)],
                         ids=["stopped", "killed"])  # fmt: skip
def test_a_checkpoint_that_is_cut_short_loses_nothing(faulty: FaultyDaemon, faults: Faults) -> None:
    faulty.start_with(faults)
    with SessionDB(**faulty.arguments, reads="daemon") as db:
        db.create_session("s", "test")
        texts = [{"role": "user", "content": f"message {n} {'x' * 900}"} for n in range(3000)]
        db.append_messages("s", texts)
        assert faulty.await_end() == (0 if faults.stop_at else -9)
        faulty.start_with(Faults())
        assert [each["content"] for each in db.get_messages("s")] == [
            each["content"] for each in texts
        ]
    faulty.stop()
    assert run("c = connect(); print(*c.execute('PRAGMA integrity_check').fetchone())",
               faulty.database) == "ok"  # fmt: skip


def test_idle_exit_and_a_request_at_that_moment(faulty: FaultyDaemon) -> None:
    """The daemon leaves as soon as nobody is there; a client comes at just that moment.

    Whether it stays or goes, the client is served, by this one or by the next.
    """
    faulty.options = ("--idle-exit", "30ms")
    eager = Faults(look_seconds=0.01)
    enough = threading.Event()

    def keep_running() -> None:
        while not enough.is_set():
            faulty.launch_with(eager)
            faulty.await_end()

    runner = threading.Thread(target=keep_running)
    runner.start()
    turns = 0
    while len(faulty.statuses) < 3 and turns < 1000:
        with SessionDB(**faulty.arguments) as db:
            for number in range(3):
                db.ensure_session("s")
                db.append_message("s", "user", f"{turns} {number}")
            turns += 1
        enough.wait(0.03)  # about as long as it takes the daemon to find itself alone
    enough.set()
    runner.join()
    assert set(faulty.statuses) == {0}
    faulty.options = ()
    faulty.start_with(Faults())
    with SessionDB(**faulty.arguments) as db:
        assert [each["content"] for each in db.get_messages("s")] == [
            f"{turn} {number}" for turn in range(turns) for number in range(3)
        ]
