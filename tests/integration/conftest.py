"""Fixtures of the tests that talk to a daemon."""

from collections.abc import Iterator

import pytest

from sessiond_client import SessionDB
from tests.support.clients import KINDS, client
from tests.support.daemon import Daemon, daemon, own_daemon, pytest_runtest_makereport
from tests.support.loops import run

__all__ = ["daemon", "own_daemon", "pytest_runtest_makereport", "run"]


@pytest.fixture(params=KINDS)
def db(request: pytest.FixtureRequest, daemon: Daemon) -> Iterator[SessionDB]:
    """A client of every kind in turn, with the blocking client's face."""
    with client(request.param, daemon.arguments) as made:
        yield made
