"""Where settings come from, and what is said of bad ones."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond import settings
from sessiond.setting_values import parse
from sessiond.settings import BadSetting, Settings, Spec

NAMES = list(settings.specs())


def _load(
    flags: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    file: str | None = None,
) -> Settings:
    data = file.encode() if file is not None else None
    return settings.load(flags or {}, environ or {}, data, "s.toml")[0]


# --- where they come from ----------------------------------------------------------------------


def test_without_anything_the_defaults_hold() -> None:
    found, origins = settings.load({}, {})
    assert found == Settings()
    assert set(origins.values()) == {"default"}
    assert set(origins) == set(NAMES)


def test_flags_win_over_the_environment_and_that_over_the_file() -> None:
    file = b"pool_size = 2\nlog_level = 'debug'\nread_timeout = 7"
    environ = {"SESSIOND_POOL_SIZE": "3", "SESSIOND_LOG_LEVEL": "error"}
    found, origins = settings.load({"pool_size": "5"}, environ, file, "/etc/s.toml")
    assert (found.pool_size, found.log_level, found.read_timeout) == (5, "error", 7)
    assert origins["pool_size"] == "--pool-size"
    assert origins["log_level"] == "SESSIOND_LOG_LEVEL"
    assert origins["read_timeout"] == "/etc/s.toml"
    assert origins["durability"] == "default"


@pytest.mark.parametrize("flags", [{"pool_size": None}, {"allow_uids": ()}, {}])
def test_flags_that_were_not_given_hide_nothing(flags: dict[str, Any]) -> None:
    environ = {"SESSIOND_POOL_SIZE": "3", "SESSIOND_ALLOW_UIDS": "7"}
    found = _load(flags, environ)
    assert (found.pool_size, found.allow_uids) == (3, (7,))


def test_an_empty_variable_counts_as_unset() -> None:
    assert _load(environ={"SESSIOND_POOL_SIZE": ""}).pool_size == Settings().pool_size


def test_a_flag_may_switch_off_what_the_file_switches_on() -> None:
    assert not _load({"allow_network_fs": False}, file="allow_network_fs = true").allow_network_fs


@pytest.mark.parametrize("name", NAMES)
def test_every_default_is_a_value_that_may_be_given(name: str) -> None:
    spec, default = settings.specs()[name]
    if default is not None:
        assert parse(spec, default, name) == default


@pytest.mark.parametrize("name", NAMES)
def test_every_default_is_shown_as_it_may_be_given(name: str) -> None:
    spec, default = settings.specs()[name]
    if default is not None and default != ():
        text = settings.shown(spec, default)
        assert getattr(_load(environ={settings.variable(name): text}), name) == default


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_bounds_and_every_setting_a_help_text(name: str) -> None:
    spec, _ = settings.specs()[name]
    assert spec.help
    assert not spec.help.endswith(".")
    if spec.kind in ("int", "number", "bytes", "seconds"):
        assert spec.low is not None
        assert spec.high is not None


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().pool_size = 3  # type: ignore[misc]


# --- sizes and times ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65536), ("64KiB", 65536), ("64 kib", 65536), ("64k", 65536), ("1.5MiB", 1572864),
        ("1MB", 1_000_000), ("1GiB", 1 << 30), (" 70000 b ", 70_000), (131072, 131_072),
    ],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    found = _load({"connection_max_bytes": text, "max_request_bytes": "1KiB"}).connection_max_bytes
    assert found == size
    assert type(found) is int


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("5min", 300), ("250ms", 0.25), ("1.5", 1.5), ("0.5h", 1800), (2, 2), (1.5, 1.5)],
)
def test_times(text: object, seconds: float) -> None:
    assert _load({"drain_timeout": text}).drain_timeout == seconds


@given(st.integers(0, 2**50))
def test_a_size_that_is_shown_reads_back(size: int) -> None:
    spec = Spec("", "bytes")
    assert parse(spec, settings.shown(spec, size), "x") == size


@given(st.floats(1e-4, 1e6))
def test_a_time_that_is_shown_reads_back(seconds: float) -> None:
    spec = Spec("", "seconds")
    assert parse(spec, settings.shown(spec, seconds), "x") == pytest.approx(seconds, rel=1e-12)


# --- lists, choices, flags, addresses ----------------------------------------------------------


@pytest.mark.parametrize("value", ["1000, 1001", "1000 1001", ["1000", "1001,1000"], (1000, 1001)])
def test_ids(value: object) -> None:
    assert _load({"allow_uids": value}).allow_uids == (1000, 1001)


def test_ids_in_a_file() -> None:
    assert _load(file="allow_gids = [5, 6]").allow_gids == (5, 6)
    assert _load(file="allow_gids = 5").allow_gids == (5,)


@pytest.mark.parametrize("value", ["cli, my agent", ["cli", "my agent,cli"], ("cli", "my agent")])
def test_texts(value: object) -> None:
    assert _load({"retention_sources": value}).retention_sources == ("cli", "my agent")


def test_texts_in_a_file() -> None:
    found = _load(file='retention_sources = ["cli", "telegram"]\nretention_days = 90')
    assert (found.retention_sources, found.retention_days) == (("cli", "telegram"), 90)
    assert _load(file='retention_sources = "cli"').retention_sources == ("cli",)


def test_texts_that_are_shown_read_back() -> None:
    spec = Spec("", "texts")
    assert parse(spec, settings.shown(spec, ("cli", "my agent")), "x") == ("cli", "my agent")


@pytest.mark.parametrize(("text", "number"), [("90", 90), ("0.5", 0.5), (1.25, 1.25), (30, 30)])
def test_numbers(text: object, number: float) -> None:
    found = _load({"retention_days": text}).retention_days
    assert found == number
    assert parse(Spec("", "number"), settings.shown(Spec("", "number"), found), "x") == number


@pytest.mark.parametrize(
    ("text", "truth"), [("yes", True), ("1", True), ("ON", True), ("false", False), ("0", False)]
)
def test_truth_in_the_environment(text: str, truth: bool) -> None:
    assert _load(environ={"SESSIOND_ALLOW_NETWORK_FS": text}).allow_network_fs is truth


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9464", "127.0.0.1", 9464),
        ("127.0.0.9:1", "127.0.0.9", 1),
        ("localhost:65535", "127.0.0.1", 65535),
        ("[::1]:80", "::1", 80),
    ],
)
def test_metrics_are_served_on_this_machine(text: str, host: str, port: int) -> None:
    found = _load({"metrics_listen": text}).metrics_listen
    assert found is not None
    assert settings.host_and_port(found) == (host, port)
    assert _load({"metrics_listen": found}).metrics_listen == found


@pytest.mark.parametrize(
    "text", ["0.0.0.0:80", "192.168.1.2:80", "127.0.0.1", "127.0.0.1:0", ":80", "host:80",
             "127.0.0.1:65536", "127.0.0.1:²", "[::]:80"],
)  # fmt: skip
def test_metrics_are_served_nowhere_else(text: str) -> None:
    with pytest.raises(BadSetting, match="loopback address and a port"):
        _load({"metrics_listen": text})


# --- bad values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("pool_size", "0", "--pool-size must be between 1 and 64, '0' is not"),
        ("pool_size", "65", "--pool-size must be between 1 and 64, '65' is not"),
        ("pool_size", "four", "--pool-size must be a whole number, 'four' is not"),
        ("pool_size", 4.5, "--pool-size must be a whole number, 4.5 is not"),
        ("pool_size", True, "--pool-size must be a whole number, True is not"),
        ("cache_size", "12 bananas", "such as 65536, 64KiB, 16MiB, 1GiB, '12 bananas' is not"),
        ("cache_size", "-1", "'-1' is not"),
        ("cache_size", "1KiB", "--cache-size must be between 1MiB and 64GiB, '1KiB' is not"),
        ("read_timeout", "5 parsecs", "such as 0.5, 250ms, 10s, 5min, 1h, '5 parsecs' is not"),
        ("read_timeout", float("nan"), "nan is not"),
        ("read_timeout", float("inf"), "inf is not"),
        ("read_timeout", "9" * 400, "is not"),
        ("read_timeout", "1h", "--read-timeout must be between 0.1s and 1800s, '1h' is not"),
        ("durability", "maybe", "--durability must be full or normal, 'maybe' is not"),
        ("durability", 1, "must be text, 1 is not"),
        ("database", " ", "--database must be text, ' ' is not"),
        ("database", "a\0b", "--database must be text"),
        ("allow_uids", ["-1"], "ids between 0 and 4294967294, -1 is not"),
        ("allow_uids", [str(2**32 - 1)], "4294967295 is not"),
        ("allow_uids", ["me"], "must be a whole number, 'me' is not"),
        ("retention_days", "30d", "a number such as 0.5 or 90, '30d' is not"),
        ("retention_days", "-1", "'-1' is not"),
        ("retention_days", "40000", "between 0 and 36500, '40000' is not"),
        ("retention_sources", "cli,,x", "must be text, '' is not"),
        ("retention_sources", 5, "must be text, 5 is not"),
        ("allow_network_fs", "perhaps", "must be true or false, 'perhaps' is not"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(
    name: str, value: object, complaint: str
) -> None:
    with pytest.raises(BadSetting) as error:
        _load({name: value})
    assert complaint in str(error.value)


def test_a_bad_value_says_where_it_stands() -> None:
    with pytest.raises(BadSetting, match=r"^SESSIOND_POOL_SIZE must be"):
        _load(environ={"SESSIOND_POOL_SIZE": "many"})
    with pytest.raises(BadSetting, match=r"^pool_size in s\.toml must be"):
        _load(file="pool_size = 'many'")


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("pool_sise = 4", "unknown setting 'pool_sise' in s.toml, did you mean pool_size?"),
        ("pool-size = 4", "unknown setting 'pool-size' in s.toml, did you mean pool_size?"),
        ("zzz = 4", "unknown setting 'zzz' in s.toml"),
        ("[batch]\nmax = 4", "unknown setting 'batch' in s.toml"),
        ("[pool_size]\nmax = 4", "pool_size in s.toml must be a whole number"),
        ("pool_size 4", "s.toml is not TOML"),
    ],
)
def test_a_bad_file_is_refused_by_name(file: str, complaint: str) -> None:
    with pytest.raises(BadSetting) as error:
        _load(file=file)
    assert complaint in str(error.value)


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"s\.toml is not TOML"):
        settings.load({}, {}, b"\xff\xfe", "s.toml")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (
            {"wal_soft_limit": "2GiB"},
            "wal_soft_limit must be at most wal_hard_limit 1GiB, 2GiB is not",
        ),
        (
            {"max_request_bytes": "64MiB"},
            "max_request_bytes must be at most connection_max_bytes 32MiB, 64MiB is not",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    flags: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BadSetting, match=complaint):
        _load(flags)


@given(
    st.sampled_from(NAMES),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
)
def test_any_value_is_taken_or_refused_by_name(name: str, value: object) -> None:
    try:
        _load({name: value})
    except BadSetting as error:
        said = str(error)
    else:
        said = f"{name} was taken"
    assert name.replace("_", "-") in said or name in said
