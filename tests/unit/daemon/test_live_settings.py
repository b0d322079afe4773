"""Settings that change while the daemon runs, and those that wait."""

import dataclasses
import logging

import pytest

from sessiond.live_settings import LiveSettings
from sessiond.settings import BadSetting, Settings, specs

SOURCES = dict.fromkeys(specs(), "default")


class Source:
    """Where settings are read from, to be changed by a test."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.origins = dict(SOURCES)
        self.broken: Exception | None = None

    def read(self) -> tuple[Settings, dict[str, str]]:
        if self.broken is not None:
            raise self.broken
        return self.settings, dict(self.origins)

    def change(self, origin: str, **values: object) -> None:
        """Give settings other values, from another origin."""
        self.settings = dataclasses.replace(self.settings, **values)  # type: ignore[arg-type]
        self.origins.update(dict.fromkeys(values, origin))


def test_every_setting_is_told_with_its_unit_and_origin() -> None:
    source = Source()
    source.change("--cache-size", cache_size=32 * 1024 * 1024)
    told = LiveSettings(source.read).described()
    assert list(told) == list(specs())
    assert told["cache_size"] == {"value": "32MiB", "origin": "--cache-size"}
    assert told["idle_exit"] == {"value": "0s", "origin": "default"}


def test_what_can_change_changes_and_the_rest_waits(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    live = LiveSettings(source.read)
    source.change("/etc/s.toml", slow_request=7.0, pool_size=9)
    with caplog.at_level(logging.INFO):
        live.read_again()
    assert (live.now.slow_request, live.now.pool_size) == (7.0, 4)
    assert live.described()["slow_request"] == {"value": "7s", "origin": "/etc/s.toml"}
    assert live.described()["pool_size"] == {"value": "4", "origin": "default"}
    assert "after a restart: pool_size" in caplog.text


def test_the_same_value_from_elsewhere_has_its_new_origin() -> None:
    source = Source()
    live = LiveSettings(source.read)
    source.change("/etc/s.toml", pool_size=4)
    live.read_again()
    assert live.described()["pool_size"]["origin"] == "/etc/s.toml"


@pytest.mark.parametrize("error", [BadSetting("pool_size must be a number"), OSError("gone")])
def test_wrong_settings_change_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    live = LiveSettings(source.read)
    before = live.described()
    source.broken = error
    live.read_again()
    assert live.described() == before
    assert str(error) in caplog.text


def test_wrong_settings_at_the_start_are_an_error() -> None:
    source = Source()
    source.broken = BadSetting("pool_size must be a number")
    with pytest.raises(BadSetting):
        LiveSettings(source.read)
