"""Configurations: values that are allowed, and the way to JSON and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.gateway import (
    GatewayConfig,
    HomeChannel,
    Platform,
    PlatformConfig,
    SessionResetPolicy,
)

PLATFORM_VALUES = [
    "local",
    "telegram",
    "discord",
    "whatsapp",
    "slack",
    "signal",
    "mattermost",
    "matrix",
    "homeassistant",
    "email",
    "sms",
    "dingtalk",
    "api_server",
    "webhook",
    "feishu",
    "wecom",
    "weixin",
    "bluebubbles",
    "qqbot",
]

platforms = st.sampled_from(Platform)
homes = st.builds(HomeChannel, platforms, st.text(min_size=1), st.text())
policies = st.builds(
    SessionResetPolicy,
    st.sampled_from(["daily", "idle", "both", "none"]),
    st.integers(0, 23),
    st.integers(0, 10**6),
)
platform_configs = st.builds(
    PlatformConfig,
    st.booleans(),
    st.none() | homes,
    st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3),
)
configs = st.builds(
    GatewayConfig,
    st.dictionaries(platforms, platform_configs, max_size=4),
    policies,
    st.dictionaries(st.text(), policies, max_size=3),
    st.dictionaries(platforms, policies, max_size=3),
    st.booleans(),
)


def test_platforms_have_their_lower_case_names() -> None:
    assert [each.value for each in Platform] == PLATFORM_VALUES
    assert [each.name.lower() for each in Platform] == PLATFORM_VALUES


@given(configs)
def test_a_configuration_survives_its_dict(config: GatewayConfig) -> None:
    assert GatewayConfig.from_dict(config.to_dict()) == config


@given(configs)
def test_unknown_keys_are_ignored_everywhere(config: GatewayConfig) -> None:
    data = config.to_dict() | {"since": 7}
    data["platforms"]["carrier_pigeon"] = {"enabled": True}
    data["reset_by_platform"]["carrier_pigeon"] = {"mode": "idle"}
    for value in data["platforms"].values():
        value["unheard_of"] = []
    data["default_reset_policy"]["unheard_of"] = {}
    assert GatewayConfig.from_dict(data) == config


@pytest.mark.parametrize("kind", [GatewayConfig, PlatformConfig, SessionResetPolicy])
def test_nulls_mean_the_defaults(
    kind: type[GatewayConfig] | type[PlatformConfig] | type[SessionResetPolicy],
) -> None:
    nulls = dict.fromkeys(kind().to_dict())
    assert kind.from_dict(nulls) == kind.from_dict({}) == kind()


def test_a_null_inside_a_map_means_not_configured() -> None:
    config = GatewayConfig.from_dict(
        {
            "platforms": {"slack": None},
            "reset_by_type": {"group": None},
            "reset_by_platform": {"slack": None},
        }
    )
    assert config == GatewayConfig()


def test_the_defaults() -> None:
    assert SessionResetPolicy() == SessionResetPolicy("both", 4, 1440)
    assert PlatformConfig() == PlatformConfig(False, None, {})
    assert GatewayConfig().group_sessions_per_user is True


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "weekly"),
        ("mode", ""),
        ("at_hour", 24),
        ("at_hour", -1),
        ("at_hour", 4.5),
        ("at_hour", "4"),
        ("at_hour", True),
        ("idle_minutes", -1),
        ("idle_minutes", "1440"),
        ("idle_minutes", float("nan")),
        ("idle_minutes", float("inf")),
        ("idle_minutes", 10**400),
        ("idle_minutes", False),
    ],
)
def test_a_policy_names_the_value_it_refuses(field: str, value: object) -> None:
    settings: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"^{field} is .*, allowed is "):
        SessionResetPolicy(**settings)
    with pytest.raises(ValueError, match=f"^{field} is .*, allowed is "):
        SessionResetPolicy.from_dict(settings)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"platforms": []}, "platforms"),
        ({"platforms": {"slack": {"enabled": "yes"}}}, "enabled"),
        ({"platforms": {"slack": {"extra": "x"}}}, "extra"),
        ({"platforms": {"slack": {"home_channel": "C1"}}}, "home_channel"),
        ({"platforms": {"slack": {"home_channel": {"platform": "fax", "chat_id": "1"}}}}, "fax"),
        ({"platforms": {"slack": {"home_channel": {"platform": "slack"}}}}, "chat_id"),
        ({"default_reset_policy": 4}, "default_reset_policy"),
        ({"reset_by_type": {"group": "never"}}, "reset_by_type.group"),
        ({"group_sessions_per_user": 1}, "group_sessions_per_user"),
    ],
)
def test_a_configuration_names_what_it_refuses(data: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        GatewayConfig.from_dict(data)


def test_a_home_channel_from_a_file_with_numbers() -> None:
    home = HomeChannel.from_dict({"platform": "telegram", "chat_id": -100123, "name": None})
    assert home == HomeChannel(Platform.TELEGRAM, "-100123", "Home")


def test_connected_platforms_and_their_homes() -> None:
    home = HomeChannel(Platform.SLACK, "C1", "ops")
    config = GatewayConfig(
        {
            Platform.SLACK: PlatformConfig(True, home),
            Platform.EMAIL: PlatformConfig(False),
            Platform.LOCAL: PlatformConfig(True),
        }
    )
    assert config.get_connected_platforms() == [Platform.SLACK, Platform.LOCAL]
    assert config.get_home_channel(Platform.SLACK) == home
    assert config.get_home_channel(Platform.LOCAL) is None
    assert config.get_home_channel(Platform.MATRIX) is None


def test_a_platform_policy_wins_over_a_chat_type_policy_over_the_default() -> None:
    by_platform, by_type = SessionResetPolicy("idle"), SessionResetPolicy("daily")
    config = GatewayConfig(
        reset_by_type={"group": by_type}, reset_by_platform={Platform.SLACK: by_platform}
    )
    assert config.get_reset_policy(Platform.SLACK, "group") is by_platform
    assert config.get_reset_policy(Platform.EMAIL, "group") is by_type
    assert config.get_reset_policy(Platform.EMAIL, "dm") is config.default_reset_policy
    assert config.get_reset_policy() is config.default_reset_policy
