"""What ``sessiond_client.gateway`` offers."""

import inspect
import subprocess
import sys

import pytest

from sessiond_client import gateway
from sessiond_client.gateway import AsyncSessionStore, SessionStore


def test_the_public_names() -> None:
    assert sorted(gateway.__all__) == [
        "AsyncSessionStore",
        "GatewayConfig",
        "HomeChannel",
        "Platform",
        "PlatformConfig",
        "SessionConfig",
        "SessionContext",
        "SessionEntry",
        "SessionResetPolicy",
        "SessionSource",
        "SessionStore",
        "build_session_context",
        "build_session_context_prompt",
        "build_session_key",
        "is_shared_multi_user_session",
    ]
    assert all(hasattr(gateway, name) for name in gateway.__all__)


CALLS = [name for name in vars(SessionStore) if not name.startswith("__")]


@pytest.mark.parametrize("name", CALLS)
def test_both_stores_have_the_same_call(name: str) -> None:
    blocking, awaiting = getattr(SessionStore, name), getattr(AsyncSessionStore, name)
    ours, theirs = inspect.signature(blocking), inspect.signature(awaiting)
    assert list(ours.parameters.values()) == list(theirs.parameters.values())
    assert blocking.__doc__ == awaiting.__doc__
    assert inspect.iscoroutinefunction(awaiting)


def test_a_path_is_not_waited_for() -> None:
    assert set(CALLS) == {name for name in vars(AsyncSessionStore) if not name.startswith("__")}
    assert not inspect.iscoroutinefunction(AsyncSessionStore.get_transcript_path)


def test_a_blocking_gateway_imports_no_asyncio() -> None:
    code = (
        "import sys, sessiond_client.gateway\n"
        "assert 'asyncio' not in sys.modules\n"
        "assert sessiond_client.gateway.AsyncSessionStore.__name__ == 'AsyncSessionStore'\n"
        "assert 'apsw' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing"):
        _ = gateway.nothing
