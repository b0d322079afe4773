"""The context of a message: what is taken from where."""

from dataclasses import dataclass
from datetime import datetime

from sessiond_client.gateway import (
    GatewayConfig,
    HomeChannel,
    Platform,
    PlatformConfig,
    SessionEntry,
    SessionResetPolicy,
    SessionSource,
    build_session_context,
)

HOME = HomeChannel(Platform.SLACK, "C1", "ops")
SOURCE = SessionSource(Platform.TELEGRAM, "5")
CONFIG = GatewayConfig(
    {
        Platform.TELEGRAM: PlatformConfig(True),
        Platform.SLACK: PlatformConfig(True, HOME),
        Platform.EMAIL: PlatformConfig(False, HomeChannel(Platform.EMAIL, "a@b", "mail")),
    }
)


def test_connected_platforms_and_the_homes_of_those() -> None:
    context = build_session_context(SOURCE, CONFIG)
    assert context.source is SOURCE
    assert context.connected_platforms == [Platform.TELEGRAM, Platform.SLACK]
    assert context.home_channels == {Platform.SLACK: HOME}
    assert (context.session_key, context.session_id) == ("", "")
    assert (context.created_at, context.updated_at) == (None, None)


def test_the_entry_s_key_id_and_times() -> None:
    created, updated = datetime(2026, 1, 2, 3), datetime(2026, 1, 2, 4)
    entry = SessionEntry("key", "id", created, updated)
    context = build_session_context(SOURCE, CONFIG, entry)
    assert context.to_dict() == {
        "source": SOURCE.to_dict(),
        "connected_platforms": ["telegram", "slack"],
        "home_channels": {"slack": HOME.to_dict()},
        "session_key": "key",
        "session_id": "id",
        "created_at": "2026-01-02T03:00:00",
        "updated_at": "2026-01-02T04:00:00",
    }


@dataclass
class SomebodysConfig:
    """A configuration that shares nothing with ours but what is asked of it."""

    group_sessions_per_user: bool = True

    def get_connected_platforms(self) -> tuple[Platform, ...]:
        return (Platform.SLACK,)

    def get_home_channel(self, platform: Platform) -> HomeChannel | None:
        return HOME if platform == Platform.SLACK else None

    def get_reset_policy(self, platform: Platform, session_type: str) -> SessionResetPolicy:
        return SessionResetPolicy()


def test_any_configuration_with_the_three_methods_will_do() -> None:
    context = build_session_context(SOURCE, SomebodysConfig())
    assert context.home_channels == {Platform.SLACK: HOME}
    assert context.to_dict()["created_at"] is None
