"""What ``import sessiond_client`` offers, and what it costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import sessiond_client
from sessiond_client import SessionDB


def test_public_names_are_these() -> None:
    assert sorted(sessiond_client.__all__) == [
        "AsyncSessionDB",
        "Closed",
        "Conflict",
        "DEFAULT_DB_PATH",
        "DatabaseError",
        "DiskFull",
        "Event",
        "Integrity",
        "InvalidParams",
        "Migrating",
        "NotFound",
        "OperationalError",
        "OutcomeUnknown",
        "Overloaded",
        "SCHEMA_VERSION",
        "SessionDB",
        "SessiondError",
        "ShuttingDown",
        "Timeout",
        "TooLarge",
        "Unauthorized",
        "Unavailable",
        "UnknownMethod",
    ]
    for name in sessiond_client.__all__:
        assert getattr(sessiond_client, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = sessiond_client.nothing


def test_the_default_path_is_computed_when_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SESSIOND_DATABASE", raising=False)
    for home in (tmp_path / "one", tmp_path / "two"):
        monkeypatch.setenv("HERMES_HOME", str(home))
        assert home / "state.db" == sessiond_client.DEFAULT_DB_PATH
        db = SessionDB(autostart=False)
        assert db.db_path == sessiond_client.DEFAULT_DB_PATH
        db.close()
    monkeypatch.setenv("HERMES_HOME", "/elsewhere")
    assert db.db_path == tmp_path / "two" / "state.db"


def test_the_schema_is_version_6() -> None:
    assert sessiond_client.SCHEMA_VERSION == 6


def test_an_import_is_cheap() -> None:
    """A blocking program pays for no event loop, no second SQLite and no terminal library.

    Nor for what only some need, and load when they do: searching and reading the file, starting
    a daemon, futures of writes that were handed over, OpenSSL.
    """
    code = (
        "import sys, sessiond_client\n"
        "sessiond_client.SessionDB('/nonexistent/state.db', autostart=False).close()\n"
        "print(*sys.modules)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    modules = set(told.stdout.split())
    loaded = {name.partition(".")[0] for name in modules}
    assert "sessiond_client" in loaded
    assert not loaded & {"asyncio", "uvloop", "apsw", "rich", "click", "sessiond"}
    assert not loaded & {"concurrent", "dataclasses", "hashlib", "logging"}
    assert not loaded & {"random", "secrets", "subprocess"}
    ours = {name for name in modules if name.startswith("sessiond_")}
    assert not {name for name in ours if ".search" in name or ".queries" in name}
    assert not ours & {"sessiond_client._starter", "sessiond_client.gateway"}
