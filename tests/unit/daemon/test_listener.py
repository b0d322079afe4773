"""The listening socket: whose place it is, and who is sent away."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.listener import Listener, turn_away


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(str(tmp_path / "sock"))
    bound = made.bind()
    yield made
    bound.close()


def test_its_own_place_is_in_place_and_not_replaced(listener: Listener) -> None:
    assert listener.is_in_place
    assert not listener.is_replaced


def test_a_removed_socket_is_not_replaced(listener: Listener) -> None:
    os.unlink(listener.path)
    assert not listener.is_in_place
    assert not listener.is_replaced


def test_a_dead_socket_in_its_place_does_not_replace_it(listener: Listener) -> None:
    os.unlink(listener.path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(listener.path)
    assert not listener.is_replaced


@pytest.mark.parametrize("backlog", [0, 10])
def test_a_socket_that_somebody_listens_on_is_never_taken(tmp_path: Path, backlog: int) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as waiting:
        living.bind(path)
        living.listen(backlog)
        waiting.connect(path)
        with pytest.raises(FileExistsError, match="somebody else listens"):
            Listener(path).bind()
        assert os.path.exists(path)


def test_a_stale_socket_is_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    Listener(path).bind().close()


@pytest.mark.parametrize("backlog", [0, 10])
def test_somebody_who_listens_in_its_place_replaces_it(listener: Listener, backlog: int) -> None:
    os.unlink(listener.path)
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(listener.path)
        other.listen(backlog)
        waiting.connect(listener.path)  # with a backlog of 0 the next one finds no room
        assert listener.is_replaced
        listener.unlink()
        assert os.path.exists(listener.path)


def test_who_waits_is_sent_away(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(8)
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in clients:
            client.settimeout(10)
            client.connect(path)
        turn_away([os.dup(listening.fileno())])
        for client in clients:
            assert client.recv(1) == b""
            client.close()
        with socket.socket(socket.AF_UNIX) as later:
            later.connect(path)  # the manager's socket itself stays
