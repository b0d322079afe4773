"""What both clients are as objects, before any daemon is involved."""

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import AsyncSessionDB, SessionDB
from sessiond_client._store import Store


@pytest.fixture(params=[SessionDB, AsyncSessionDB])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An object that has never been used."""
    kind: type[Store] = request.param
    made = kind(tmp_path / "state.db")
    yield made
    if isinstance(made, SessionDB):
        made.close()


def test_it_shows_which_database_it_is_for(db: Store, tmp_path: Path) -> None:
    assert repr(db) == f"<{type(db).__name__} {tmp_path / 'state.db'} open>"


def test_it_shows_that_it_is_closed(tmp_path: Path) -> None:
    db = SessionDB(tmp_path / "state.db")
    db.close()
    assert repr(db) == f"<SessionDB {tmp_path / 'state.db'} closed>"


@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_does_not_travel(act: Callable[[Any], object], db: Store) -> None:
    with pytest.raises(TypeError, match="can be neither pickled nor copied: make one from its db"):
        act(db)
