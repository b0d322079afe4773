"""Fixtures of the tests that break things."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import pytest_runtest_makereport
from tests.support.faults import FaultyDaemon

__all__ = ["faulty", "pytest_runtest_makereport"]


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultyDaemon]:
    """A daemon that is not started yet; whatever runs at the end of the test is ended."""
    made = FaultyDaemon(tmp_path)
    yield made
    if made.process is not None:
        made.kill()
