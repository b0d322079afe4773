"""A session from a file, and the requests that store it."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from sessiond_client.cli import incoming
from sessiond_client.cli.incoming import Incoming
from sessiond_client.gateway.entry import SessionEntry
from sessiond_protocol.requests import REQUESTS, Request
from sessiond_protocol.requests.message import Message, MessageAppendMany, MessageReplace
from sessiond_protocol.requests.session import (
    SessionCreate,
    SessionEnd,
    SessionSetTitle,
    SessionUpdateTokens,
)

LINE: dict[str, Any] = {
    "id": "s1",
    "source": "telegram",
    "user_id": "u",
    "model": "m",
    "model_config": '{"t":1}',
    "system_prompt": "p",
    "parent_session_id": "s0",
    "started_at": 5.0,
    "ended_at": 9.0,
    "end_reason": "done",
    "title": "a title",
    "input_tokens": 3,
    "output_tokens": None,
    "message_count": 77,
    "column_of_a_newer_program": "x",
    "messages": [
        {"id": 1, "session_id": "s1", "role": "user", "content": "hi", "timestamp": 6.0, "new": 1},
        {"id": 2, "role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},
    ],
}


def writes(batches: list[Any]) -> list[list[Request[Any]]]:
    return [
        [msgspec.msgpack.decode(item.arguments, type=REQUESTS[item.method]) for item in each.items]
        for each in batches
    ]


def test_one_request_stores_a_session_whole() -> None:
    [batch] = writes(incoming.requests_for(incoming.from_export(LINE)))
    create, append, tokens, title, end = batch
    assert create == SessionCreate(
        session_id="s1",
        source="telegram",
        started_at=5.0,
        model="m",
        model_config='{"t":1}',
        system_prompt="p",
        user_id="u",
    )
    assert isinstance(append, MessageAppendMany)
    assert append.messages == [
        Message(role="user", timestamp=6.0, content="hi"),
        Message(role="assistant", timestamp=6.0, tool_calls='[{"id":"c"}]', tool_call_count=1),
    ]
    assert isinstance(tokens, SessionUpdateTokens)
    assert (tokens.absolute, tokens.input_tokens, tokens.output_tokens) == (True, 3, 0)
    assert title == SessionSetTitle(session_id="s1", title="a title")
    assert end == SessionEnd(session_id="s1", end_reason="done", ended_at=9.0)


def test_a_parent_is_set_later() -> None:
    session = incoming.from_export(LINE)
    assert session.parent == "s0"
    assert incoming.creation(session).parent_session_id is None
    assert incoming.creation(session, parent="s0").parent_session_id == "s0"


def test_replacing_takes_the_place_of_the_first_append() -> None:
    [batch] = writes(incoming.requests_for(incoming.from_export(LINE), replace=True))
    assert isinstance(batch[1], MessageReplace)


def test_without_a_title_everything_else_is_there() -> None:
    session = incoming.from_export(LINE)
    [batch] = writes(incoming.requests_for(session, with_title=False))
    assert [type(each) for each in batch] == [
        SessionCreate, MessageAppendMany, SessionUpdateTokens, SessionEnd,
    ]  # fmt: skip


def test_a_session_without_anything() -> None:
    [batch] = writes(incoming.requests_for(incoming.from_export({"id": "s", "messages": []})))
    [create] = batch
    assert isinstance(create, SessionCreate)
    assert create.source == "unknown"


def test_a_long_transcript_is_several_requests() -> None:
    text = "x" * (incoming.CHUNK_BYTES // 3)
    messages = [Message(role="user", timestamp=float(number), content=text) for number in range(8)]
    session = Incoming("s", {"title": "t"}, messages)
    batches = writes(incoming.requests_for(session, replace=True))
    assert [type(each) for batch in batches for each in batch] == [
        SessionCreate, MessageReplace, *[MessageAppendMany] * (len(batches) - 1), SessionSetTitle,
    ]  # fmt: skip
    assert len(batches) == 4
    parts = [each for batch in batches for each in batch if hasattr(each, "messages")]
    assert [message for part in parts for message in part.messages] == messages


def test_one_message_larger_than_a_part_goes_alone() -> None:
    large = Message(role="user", timestamp=0.0, content="x" * (incoming.CHUNK_BYTES + 1))
    small = Message(role="user", timestamp=0.0)
    assert [len(part) for part in incoming.chunked([small, large, small, small])] == [1, 1, 2]


def test_many_small_messages_are_parted_by_number() -> None:
    message = Message(role="user", timestamp=0.0)
    parts = list(incoming.chunked([message] * (2 * incoming.CHUNK_MESSAGES + 1)))
    assert [len(part) for part in parts] == [incoming.CHUNK_MESSAGES] * 2 + [1]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"id": 5}, "id is 5, text that is not empty is wanted"),
        ({"id": ""}, "id is '', text that is not empty is wanted"),
        ({"messages": {}}, "session s1: messages is no list"),
        ({"messages": [3]}, r"session s1: messages\[0\] is int, not an object"),
        ({"messages": [{"role": 5}]}, r"session s1: messages\[0\]: role must be text, not int"),
        ({"messages": [{"timestamp": "x"}]}, r"session s1: messages\[0\]: Invalid isoformat"),
        ({"messages": [{"token_count": 2**70}]}, r"session s1: messages\[0\]: token_count must be"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        incoming.from_export({**LINE, **change})


def test_a_title_that_is_too_long_is_cut() -> None:
    assert incoming.from_export({**LINE, "title": "x" * 500}).title == "x" * 100
    assert incoming.from_export({**LINE, "title": " \n"}).title is None


def test_a_transcript_without_more_knowledge() -> None:
    session = incoming.from_transcript(
        "20250101_x", [{"role": "user", "content": "a", "timestamp": 7.0}, {"role": "tool"}], None
    )
    create = incoming.creation(session)
    assert (create.session_id, create.source, create.started_at) == ("20250101_x", "unknown", 7.0)
    assert [message.timestamp for message in session.messages] == [7.0, 7.0]


def test_a_transcripts_own_line_about_its_session_is_no_message() -> None:
    lines: list[dict[str, Any]] = [
        {"role": "session_meta", "model": "m", "platform": "slack", "tools": []},
        {"role": "user", "content": "a", "timestamp": "2025-01-01T00:00:00+00:00"},
    ]
    session = incoming.from_transcript("s", lines, None)
    create = incoming.creation(session)
    assert (create.source, create.model) == ("slack", "m")
    assert [message.content for message in session.messages] == ["a"]
    assert create.started_at == datetime(2025, 1, 1, tzinfo=UTC).timestamp()


def test_what_a_gateway_knew_of_a_session() -> None:
    entry = SessionEntry.from_dict(
        {
            "session_key": "k",
            "session_id": "s",
            "created_at": 100.0,
            "updated_at": 200.0,
            "platform": "telegram",
            "origin": {"platform": "telegram", "chat_id": "c", "user_id": "u"},
            "input_tokens": 4,
        }
    )
    session = incoming.from_transcript("s", [{"role": "user", "timestamp": 150.0}], entry)
    [batch] = writes(incoming.requests_for(session))
    assert batch[0] == SessionCreate(
        session_id="s", source="telegram", started_at=100.0, user_id="u"
    )
    assert isinstance(batch[2], SessionUpdateTokens)
    assert batch[2].input_tokens == 4
