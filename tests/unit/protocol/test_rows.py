"""From raw rows to what callers see."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.content import INLINE_JSON, split_content, text_hash
from sessiond_protocol.rows import (
    JSON_COLUMNS,
    as_conversation,
    decode_content,
    decode_json,
    decode_message,
    decode_session,
)
from sessiond_protocol.schema import MESSAGE_COLUMN_NAMES


def raw(**columns: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(MESSAGE_COLUMN_NAMES)
    row |= {"id": 1, "session_id": "s", "role": "user", "timestamp": 1.0}
    return row | {"content_value": None, "content_hash": None} | columns


def test_a_message_has_exactly_the_columns_in_order() -> None:
    assert tuple(decode_message(raw(active=0))) == MESSAGE_COLUMN_NAMES


def test_a_row_without_the_structure_columns_is_a_message_too() -> None:
    row = raw(content="hello")
    del row["content_value"], row["content_hash"]
    assert decode_message(row)["content"] == "hello"


@pytest.mark.parametrize("name", JSON_COLUMNS)
def test_json_columns_are_decoded(name: str) -> None:
    assert decode_message(raw(**{name: '[{"a": 1}]'}))[name] == [{"a": 1}]
    assert decode_message(raw(**{name: None}))[name] is None


@pytest.mark.parametrize("stored", ["", "{broken", "[1,]", "[" * 100_000, b"[1]", 7])
def test_what_is_not_json_comes_back_as_stored(stored: Any) -> None:
    assert decode_json(stored) == stored


def test_large_integers_keep_their_digits() -> None:
    assert decode_json(str(2**80)) == 2**80


structures = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
inline = st.text().map(lambda text: INLINE_JSON + text)
contents = st.none() | st.text() | inline | st.lists(structures) | st.dictionaries(
    st.text(), structures
)  # fmt: skip


@given(contents)
def test_content_comes_back_as_it_was_given(content: Any) -> None:
    assert decode_content(*split_content(content)) == content


def test_a_text_changed_by_another_program_wins_over_the_structure() -> None:
    text, value, value_hash = split_content([{"type": "text", "text": "old"}])
    assert text == "old"
    assert decode_content("new", value, value_hash) == "new"
    assert decode_content(None, value, value_hash) is None
    assert decode_content(b"old", value, value_hash) == b"old"


@pytest.mark.parametrize("value", [[], {}, [{"type": "text", "text": "hi"}], "text", None])
def test_the_inline_form_of_newer_files_is_read(value: Any) -> None:
    assert decode_content(INLINE_JSON + json.dumps(value), None, None) == value


def test_an_inline_form_that_is_not_json_comes_back_as_stored() -> None:
    assert decode_content(INLINE_JSON + "{", None, None) == INLINE_JSON + "{"


def test_a_conversation_has_role_and_content_always_and_the_rest_when_not_empty() -> None:
    rows = [
        raw(content=None),
        raw(role="tool", content="", tool_call_id="c1", tool_name="ls", reasoning="no"),
        raw(
            role="assistant",
            content="x",
            tool_calls='[{"id": "c1"}]',
            reasoning="because",
            reasoning_details="[]",
            codex_reasoning_items='[{"type": "reasoning"}]',
            tool_name="",
            finish_reason="stop",
        ),
        raw(content="", content_value='[{"type":"image"}]', content_hash=text_hash("")),
    ]
    assert as_conversation(rows) == [
        {"role": "user", "content": None},
        {"role": "tool", "content": "", "tool_call_id": "c1", "tool_name": "ls"},
        {
            "role": "assistant",
            "content": "x",
            "tool_calls": [{"id": "c1"}],
            "reasoning": "because",
            "codex_reasoning_items": [{"type": "reasoning"}],
        },
        {"role": "user", "content": [{"type": "image"}]},
    ]


def test_a_session_keeps_its_model_config_as_json_text() -> None:
    row = {"id": "s", "model_config": '{"a": 1}', "preview": "", "last_active": 2.0}
    assert decode_session(row) == row
    assert decode_session(row) is not row
