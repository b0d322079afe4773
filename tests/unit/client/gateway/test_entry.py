"""Entries: nothing gets lost on the way to JSON and back."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.gateway import Platform, SessionEntry, SessionSource
from sessiond_client.gateway.entry import local_datetime, unix_seconds
from tests.unit.client.gateway.sources import sources

WHEN = datetime(2026, 5, 4, 12, 30, 15, 250)
MINIMAL = {
    "session_key": "k",
    "session_id": "s",
    "created_at": WHEN.isoformat(),
    "updated_at": WHEN.isoformat(),
}

moments = st.floats(0, 4e9).map(lambda seconds: local_datetime(round(seconds, 6)))
counts = st.integers(0, 2**63 - 1)
entries = st.builds(
    SessionEntry,
    st.text(min_size=1),
    st.text(min_size=1),
    moments,
    moments,
    st.none() | sources(),
    st.none() | st.text(),
    st.none() | st.sampled_from(Platform),
    st.text(),
    counts,
    counts,
    counts,
    counts,
    counts,
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    counts,
    st.booleans(),
    st.sampled_from([None, "idle", "daily"]),
    st.booleans(),
)


@given(entries)
def test_an_entry_survives_its_dict(entry: SessionEntry) -> None:
    assert SessionEntry.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


@given(entries)
def test_an_entry_survives_its_record(entry: SessionEntry) -> None:
    assert SessionEntry.from_dict(json.loads(json.dumps(entry.to_record()))) == entry


def test_the_positional_order() -> None:
    source = SessionSource.local_cli()
    entry = SessionEntry(
        "k", "s", WHEN, WHEN, source, "name", Platform.LOCAL, "dm",
        1, 2, 3, 4, 10, 0.5, "estimated", 7, True, "idle", True,
    )  # fmt: skip
    assert entry.to_dict() == {
        "session_key": "k",
        "session_id": "s",
        "created_at": "2026-05-04T12:30:15.000250",
        "updated_at": "2026-05-04T12:30:15.000250",
        "origin": source.to_dict(),
        "display_name": "name",
        "platform": "local",
        "chat_type": "dm",
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_tokens": 3,
        "cache_write_tokens": 4,
        "total_tokens": 10,
        "last_prompt_tokens": 7,
        "estimated_cost_usd": 0.5,
        "cost_status": "estimated",
        "was_auto_reset": True,
        "auto_reset_reason": "idle",
        "reset_had_activity": True,
    }


def test_nulls_and_absent_keys_mean_the_defaults() -> None:
    default = SessionEntry("k", "s", WHEN, WHEN)
    nulls = dict.fromkeys(default.to_dict()) | {"origin": None, "unheard_of": 1} | MINIMAL
    assert SessionEntry.from_dict(MINIMAL) == SessionEntry.from_dict(nulls) == default
    assert "origin" not in default.to_dict()
    assert default.cost_status == "unknown"


@pytest.mark.parametrize("platform", ["fax", "", 7, ["slack"], {"name": "slack"}])
def test_an_unknown_platform_is_kept_raw(
    platform: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    entry = SessionEntry.from_dict(MINIMAL | {"platform": platform})
    assert entry.platform is None
    assert entry.to_dict()["platform"] == platform
    assert entry.to_record()["platform"] == platform
    assert SessionEntry.from_dict(entry.to_dict()) == entry
    assert [record.levelno for record in caplog.records[:1]] == [logging.DEBUG]
    entry.platform = Platform.SLACK
    assert entry.to_dict()["platform"] == "slack"


@pytest.mark.parametrize(
    "origin",
    [{"platform": "fax", "chat_id": "1", "new": [1, {"x": None}]}, "text", [], {}, 0, False],
)
def test_an_origin_that_cannot_be_read_is_kept_raw(
    origin: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    entry = SessionEntry.from_dict(MINIMAL | {"origin": origin})
    assert entry.origin is None
    assert entry.to_dict()["origin"] == origin
    assert SessionEntry.from_dict(entry.to_dict()) == entry
    assert [record.levelno for record in caplog.records[:1]] == [logging.DEBUG]
    entry.origin = SessionSource.local_cli()
    assert entry.to_dict()["origin"] == SessionSource.local_cli().to_dict()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session_key", None),
        ("session_id", ""),
        ("created_at", None),
        ("created_at", "yesterday"),
        ("created_at", "0001-01-01T00:00:00"),
        ("updated_at", True),
        ("updated_at", 1e30),
        ("updated_at", float("nan")),
        ("input_tokens", "5"),
        ("output_tokens", 1.5),
        ("total_tokens", 2**63),
        ("estimated_cost_usd", float("nan")),
        ("was_auto_reset", 1),
        ("display_name", ["x"]),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(field: str, value: object) -> None:
    data: dict[str, Any] = MINIMAL | {field: value}
    with pytest.raises(ValueError, match=f"^{field} is .*, allowed is "):
        SessionEntry.from_dict(data)


def test_times_with_a_zone_become_local_ones() -> None:
    moment = datetime(2026, 5, 4, 10, tzinfo=UTC)
    entry = SessionEntry.from_dict(MINIMAL | {"updated_at": "2026-05-04T12:00:00+02:00"})
    assert entry.updated_at.tzinfo is None
    assert unix_seconds(entry.updated_at) == moment.timestamp()


@given(st.floats(0, 4e9))
def test_local_times_give_their_instants_back(seconds: float) -> None:
    assert unix_seconds(local_datetime(seconds)) == pytest.approx(seconds, abs=1e-6)
