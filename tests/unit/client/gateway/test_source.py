"""Sources: their dict form and their description."""

import pytest
from hypothesis import given

from sessiond_client.gateway import Platform, SessionSource
from tests.unit.client.gateway.sources import sources


@given(sources())
def test_a_source_survives_its_dict(source: SessionSource) -> None:
    assert SessionSource.from_dict(source.to_dict()) == source


def test_alternative_ids_are_written_only_when_known() -> None:
    plain = SessionSource(Platform.SIGNAL, "c")
    assert list(plain.to_dict()) == [
        "platform",
        "chat_id",
        "chat_name",
        "chat_type",
        "user_id",
        "user_name",
        "thread_id",
        "chat_topic",
    ]
    full = SessionSource(Platform.SIGNAL, "c", user_id_alt="u2", chat_id_alt="c2")
    assert full.to_dict() == plain.to_dict() | {"user_id_alt": "u2", "chat_id_alt": "c2"}
    assert plain.to_dict()["platform"] == "signal"


def test_reading_a_sparse_dict() -> None:
    source = SessionSource.from_dict(
        {"platform": "telegram", "chat_id": -5, "chat_type": None, "user_id": 7, "unheard_of": 1}
    )
    assert source == SessionSource(Platform.TELEGRAM, "-5", chat_type="dm", user_id="7")
    assert SessionSource.from_dict({"platform": "telegram", "chat_id": None}).chat_id == ""


@pytest.mark.parametrize("platform", [None, "fax", "", 3, ["slack"]])
def test_an_unknown_platform_is_refused_by_name(platform: object) -> None:
    with pytest.raises(ValueError, match=r"^platform is .*, allowed is one of local, telegram"):
        SessionSource.from_dict({"platform": platform, "chat_id": "1"})


def test_the_command_line() -> None:
    source = SessionSource.local_cli()
    assert source == SessionSource(Platform.LOCAL, "cli", "CLI terminal", "dm")
    assert source.description == "CLI terminal"


@pytest.mark.parametrize(
    ("chat_type", "chat_name", "user_id", "user_name", "expected"),
    [
        ("dm", "ignored", "u", "Anna", "DM with Anna"),
        ("dm", None, "u", None, "DM with u"),
        ("dm", None, None, None, "DM with user"),
        ("group", "Ops", None, None, "group: Ops"),
        ("group", None, None, None, "group: c"),
        ("channel", "news", None, None, "channel: news"),
        ("thread", "help", None, None, "help"),
        ("thread", None, None, None, "c"),
    ],
)
def test_descriptions(
    chat_type: str,
    chat_name: str | None,
    user_id: str | None,
    user_name: str | None,
    expected: str,
) -> None:
    source = SessionSource(Platform.SLACK, "c", chat_name, chat_type, user_id, user_name)
    assert source.description == expected
    source.thread_id = "17"
    assert source.description == f"{expected}, thread: 17"
