"""What ``sessiond_client.gateway`` offers."""

from sessiond_client import gateway


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
