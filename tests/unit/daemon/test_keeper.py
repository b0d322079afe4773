"""From a path to a store: what is refused on the way, and what is said of it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessiond.sqlite.keeper import Keeper
from sessiond.sqlite.refusal import OpenRefused, Reason
from sessiond_protocol import paths, state_file
from sessiond_protocol.state_file import State
from tests.unit.daemon.stores import opened


@contextmanager
def kept(path: Path) -> Iterator[Keeper]:
    """A keeper that has the daemon's lock, and gives it back."""
    keeper = Keeper(
        str(path),
        durability="full",
        cache_bytes=1 << 20,
        lock_timeout=0.0,
        start_timeout=0.0,
        allow_network_fs=True,
    )
    keeper.take()
    try:
        yield keeper
    finally:
        gc.collect()  # a connection that was refused is closed by nobody else
        keeper._guard.let_go()


def test_a_new_file_is_opened_and_no_migration(tmp_path: Path) -> None:
    told: list[float] = []
    with kept(tmp_path / "state.db") as keeper:
        store = keeper.open(told.append)
        assert store.health()["writable"]
        keeper.close()
    assert told == []


def test_a_migration_is_announced_with_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with kept(path) as keeper:
        keeper.migrating("/run/here.sock")
        found = state_file.read(paths.state_file(str(path)))
    assert found is not None
    assert (found.state, found.socket) == (State.MIGRATING, "/run/here.sock")


def test_damage_that_the_first_commit_meets_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        page = file.value("SELECT rootpage FROM sqlite_schema WHERE name = 'sessiond_meta'")
        size = file.value("PRAGMA page_size")
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(content)
    with kept(path) as keeper:
        with pytest.raises(OpenRefused, match="is damaged") as raised:
            keeper.open(lambda _seconds: None)
        assert raised.value.reason is Reason.DAMAGED
