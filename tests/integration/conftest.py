"""Fixtures of the tests that talk to a daemon."""

from tests.support.daemon import daemon, own_daemon, pytest_runtest_makereport

__all__ = ["daemon", "own_daemon", "pytest_runtest_makereport"]
