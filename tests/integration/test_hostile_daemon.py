"""What both clients do when the other end of the socket misbehaves or is somebody else."""

import contextlib
import logging
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from sessiond_client import Conflict, OutcomeUnknown, SessionDB, SessiondError, Unavailable
from sessiond_client import _shared as sharing
from tests.support.clients import KINDS, client, new_id
from tests.support.daemon import PATIENCE, Daemon

WELCOME = {
    "protocol": 1,
    "version": "1",
    "schema_version": 6,
    "database": {"path": "x", "device": 1, "inode": 1},
    "limits": {"max_request_bytes": 100_000, "max_undecided": 4096},
    "generation": b"g",
    "known": False,
    "last": 0,
}

Behave = Callable[[int, list[Any]], bytes | None]


def answer(request: list[Any], result: Any) -> bytes:
    packed: bytes = msgpack.packb([1, request[1], None, result])
    return packed


def refuse(request: list[Any], code: str, **data: Any) -> bytes:
    packed: bytes = msgpack.packb([1, request[1], [code, f"{code} it is", data or None], None])
    return packed


@contextlib.contextmanager
def pretending(path: Path, behave: Behave) -> Iterator[Path]:
    """A socket behind which ``behave`` answers: it gets the connection's number and each request,
    and returns bytes, or None to hang up."""
    stop = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(0.01)

        def serve() -> None:
            number = 0
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    connected, _ = listening.accept()
                    with connected, contextlib.suppress(ConnectionError):
                        _converse(connected, number, behave, stop)
                    number += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            stop.set()
            thread.join(PATIENCE)


def _converse(connected: socket.socket, number: int, behave: Behave, stop: threading.Event) -> None:
    connected.settimeout(0.01)
    unpacker = msgpack.Unpacker()
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            data = connected.recv(65536)
            if not data:
                return
            unpacker.feed(data)
            for request in unpacker:
                said = behave(number, request)
                if said is None:
                    return
                connected.sendall(said)


def arguments(path: Path, **named: Any) -> dict[str, Any]:
    return {
        "db_path": path.parent / "state.db",
        "socket": path,
        "autostart": False,
        "timeout": 1.0,
        **named,
    }


@pytest.fixture(params=["sync-daemon", "asyncio-daemon", "uvloop-daemon"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def test_garbage_is_not_taken_for_an_answer(kind: str, tmp_path: Path) -> None:
    with (
        pretending(tmp_path / "s", lambda _, __: b"HTTP/1.1 400 Bad Request\r\n\r\n") as path,
        client(kind, arguments(path, timeout=0.3)) as db,
        pytest.raises(Unavailable, match="garbled"),
    ):
        db.session_count()


def test_a_hello_that_does_not_fit_is_garbage_too(kind: str, tmp_path: Path) -> None:
    with (
        pretending(tmp_path / "s", lambda _, request: answer(request, {"protocol": 1})) as path,
        client(kind, arguments(path, timeout=0.3)) as db,
        pytest.raises(Unavailable, match="garbled"),
    ):
        db.create_session("x", "cli")


def test_another_protocol_says_which_side_is_older(kind: str, tmp_path: Path) -> None:
    def behave(_: int, request: list[Any]) -> bytes:
        return answer(request, {**WELCOME, "protocol": 9})

    with (
        pretending(tmp_path / "s", behave) as path,
        client(kind, arguments(path)) as db,
        pytest.raises(SessiondError, match="protocol 9"),
    ):
        db.create_session("x", "cli")


def test_an_answer_that_does_not_fit_fails_its_call_and_no_other(kind: str, tmp_path: Path) -> None:
    def behave(_: int, request: list[Any]) -> bytes:
        if request[2] == "server.hello":
            return answer(request, WELCOME)
        return answer(request, "text" if request[2] == "session.count" else 5)

    with pretending(tmp_path / "s", behave) as path, client(kind, arguments(path)) as db:
        with pytest.raises(SessiondError, match=r"session\.count does not fit"):
            db.session_count()
        assert db.message_count() == 5


def test_a_daemon_that_hangs_up_on_every_write_leaves_it_unknown(kind: str, tmp_path: Path) -> None:
    def behave(_: int, request: list[Any]) -> bytes | None:
        return answer(request, WELCOME) if request[2] == "server.hello" else None

    with (
        pretending(tmp_path / "s", behave) as path,
        client(kind, arguments(path, timeout=0.3)) as db,
        pytest.raises(OutcomeUnknown) as caught,
    ):
        db.append_message("x", "user", "hello")
    assert caught.value.data["seq"] == 1


def test_the_same_bytes_are_sent_again_until_they_are_answered(kind: str, tmp_path: Path) -> None:
    seen: list[tuple[int, Any, Any]] = []

    def behave(number: int, request: list[Any]) -> bytes | None:
        if request[2] == "server.hello":
            return answer(request, {**WELCOME, "known": number > 0})
        seen.append((number, request[3][0], request[3][1]["seq"]))
        return answer(request, 77) if number == 2 else None

    with (
        pretending(tmp_path / "s", behave) as path,
        client(kind, arguments(path, timeout=PATIENCE)) as db,
    ):
        assert db.append_message("x", "user", "hello") == 77
    assert [each[0] for each in seen] == [0, 1, 2]
    assert all(each[1:] == seen[0][1:] for each in seen)


@pytest.mark.parametrize("code", ["overloaded", "shutting_down", "migrating"])
def test_a_refusal_that_passes_is_waited_for(kind: str, tmp_path: Path, code: str) -> None:
    seen: list[int] = []

    def behave(_: int, request: list[Any]) -> bytes:
        if request[2] == "server.hello":
            return answer(request, WELCOME)
        seen.append(request[3][1]["seq"])
        return refuse(request, code, applied=False) if len(seen) < 4 else answer(request, 77)

    with (
        pretending(tmp_path / "s", behave) as path,
        client(kind, arguments(path, timeout=PATIENCE)) as db,
    ):
        assert db.append_message("x", "user", "hello") == 77
    assert seen == [1, 1, 1, 1]


def test_a_refusal_that_does_not_pass_is_said_at_the_deadline(kind: str, tmp_path: Path) -> None:
    def behave(_: int, request: list[Any]) -> bytes:
        if request[2] == "server.hello":
            return answer(request, WELCOME)
        return refuse(request, "overloaded", applied=False)

    with (
        pretending(tmp_path / "s", behave) as path,
        client(kind, arguments(path, timeout=0.3)) as db,
        pytest.raises(sqlite3.OperationalError, match="overloaded it is"),
    ):
        db.append_message("x", "user", "hello")


def test_a_full_disk_is_told_at_once_and_the_next_write_goes_on(kind: str, tmp_path: Path) -> None:
    places: list[tuple[int, int]] = []

    def behave(_: int, request: list[Any]) -> bytes:
        if request[2] == "server.hello":
            return answer(request, WELCOME)
        places.append((request[3][1]["seq"], request[3][1]["floor"]))
        return (
            refuse(request, "disk_full", applied=False) if len(places) == 1 else answer(request, 7)
        )

    with pretending(tmp_path / "s", behave) as path, client(kind, arguments(path)) as db:
        with pytest.raises(sqlite3.OperationalError, match="disk_full"):
            db.append_message("x", "user", "hello")
        assert db.append_message("x", "user", "hello") == 7
    assert places == [(1, 1), (2, 2)]


def test_the_daemon_of_another_file_is_refused(kind: str, daemon: Daemon, tmp_path: Path) -> None:
    meant = tmp_path / "other.db"
    meant.touch()
    named = {**daemon.arguments, "db_path": meant}
    with client(kind, named) as db, pytest.raises(Conflict, match=r"other\.db"):
        db.create_session(new_id(), "cli")


def test_settings_for_a_daemon_that_runs_already_are_noted_once(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    sharing._noted.clear()
    caplog.set_level(logging.DEBUG, "sessiond_client")
    for kind in KINDS:
        with client(kind, {**daemon.arguments, "pool_size": 3, "batch_wait_ms": 5}) as db:
            db.session_count()
    notes = [each.getMessage() for each in caplog.records if each.name == "sessiond_client"]
    assert len(notes) == 1
    assert "keeps its own settings" in notes[0]
    with SessionDB(**daemon.arguments) as db:
        assert db.get_stats()["pool_size"] != 3
