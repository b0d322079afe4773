"""Values on their way into columns."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.content import (
    HASH_BYTES,
    INLINE_JSON,
    MAX_INTEGER,
    MIN_INTEGER,
    check_integer,
    check_real,
    clean_text,
    content_text,
    count_tool_calls,
    encode_json,
    split_content,
    text_hash,
    to_json,
)

# Any text, with and without surrogates: hypothesis leaves them out unless it is told.
any_text = st.text(st.characters() | st.characters(categories=["Cs"]))


@given(any_text)
def test_clean_text_is_utf_8_and_keeps_clean_text(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert clean_text(cleaned) == cleaned
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert cleaned == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("\udc00", "\ufffd"),
        ("a\ud83d", "a\ufffd"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ud800\ud800\udc00", "\ufffd\U00010000"),
        ("\ud83d\ude00", "😀"),
        ("a\0b", "a\0b"),
    ],
)
def test_lone_surrogates_are_replaced(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@pytest.mark.parametrize("value", [MIN_INTEGER, -1, 0, MAX_INTEGER])
def test_integers_of_a_column(value: int) -> None:
    assert check_integer(value, "token_count") == value


@pytest.mark.parametrize("value", [MIN_INTEGER - 1, MAX_INTEGER + 1, 1.0, "1", None])
def test_other_integers_are_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"^token_count must be"):
        check_integer(value, "token_count")


def test_an_integer_too_long_to_print_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^token_count must be between .*, the value is not$"):
        check_integer(10**5000, "token_count")


def test_a_bound_stands_in_the_text() -> None:
    with pytest.raises(ValueError, match=f"^limit must be between 0 and {MAX_INTEGER}, -3 is not$"):
        check_integer(-3, "limit", minimum=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, "1", None])
def test_numbers_that_are_not_finite_are_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"^timestamp "):
        check_real(value, "timestamp")


def test_an_integer_is_a_real_number() -> None:
    stored = check_real(3, "timestamp")
    assert (stored, type(stored)) == (3.0, float)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip


@given(json_values)
def test_json_comes_back_and_falsy_values_are_not_stored(value: Any) -> None:
    encoded = encode_json(value, "tool_calls")
    if value:
        assert encoded is not None
        assert json.loads(encoded) == value
    else:
        assert encoded is None


def test_keys_that_are_not_text_and_large_integers_survive() -> None:
    encoded = to_json({1: "a", None: 2**80, False: 1.5, 2.5: []}, "model_config")
    assert json.loads(encoded) == {"1": "a", "null": 2**80, "false": 1.5, "2.5": []}


def test_surrogates_in_json_are_replaced() -> None:
    assert json.loads(to_json(["\ud800", "\0", "中"], "x")) == ["\ufffd", "\0", "中"]


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "value",
    [
        [float("nan")],
        {"a": float("inf")},
        {float("nan"): 1},
        [10**5000],
        [object()],
        [b"bytes"],
        {(1, 2): 3},
        _cycle(),
        _deep(),
    ],
    ids=["nan", "inf", "nan key", "digits", "object", "bytes", "tuple key", "cycle", "deep"],
)
def test_what_json_cannot_hold_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^reasoning_details cannot be stored as JSON: "):
        encode_json(value, "reasoning_details")


@pytest.mark.parametrize(
    ("calls", "number"),
    [(None, 0), ([], 0), ("", 0), ([1, 2], 2), ((1,), 1), ({"a": 1, "b": 2}, 1), ("call", 1)],
)
def test_a_call_that_is_no_list_counts_once(calls: object, number: int) -> None:
    assert count_tool_calls(calls) == number


def test_text_is_stored_as_it_is() -> None:
    assert split_content(None) == (None, None, None)
    assert split_content("hello") == ("hello", None, None)
    assert split_content("") == ("", None, None)
    assert split_content("\ud800") == ("\ufffd", None, None)


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "one"}, IMAGE, {"type": "text", "text": "two"}], "one\ntwo"),
        ([IMAGE], ""),
        ([{"type": "image", "source": {"type": "base64", "data": "AAAA"}}], ""),
        ([{"type": "input_image", "image_url": "https://example.org/a.png"}], ""),
        ([{"type": "image", "text": "AAAA"}], ""),
        (["plain", {"text": "dict"}], "plain\ndict"),
        (("a", "b"), "a\nb"),
        (["see", "data:image/png;base64,AAAA"], "see"),
        ({"text": "alone", "url": "https://example.org/a.png"}, "alone"),
        ([{"type": "tool_result", "content": "done"}], "done"),
        ([{"type": "tool_result", "content": [{"type": "text", "text": "in"}, IMAGE]}], "in"),
        ([{"type": "document", "content": "JVBERi0="}], ""),
        ([["nested", ["deeper"]], ""], "nested\ndeeper"),
        ({"answer": 42}, ""),
        ([1, None, True], ""),
        ([{"type": 7, "text": "odd"}], "odd"),
        ([{"type": "text", "text": "two\nlines"}], "two\nlines"),
        ([], ""),
        ({}, ""),
    ],
)
def test_structured_content_gives_its_text(content: Any, text: str) -> None:
    stored, value, value_hash = split_content(content)
    assert stored == text
    assert value is not None
    assert json.loads(value) == (list(content) if isinstance(content, tuple) else content)
    assert value_hash == text_hash(text)


@pytest.mark.parametrize("content", [5, 1.5, True, b"bytes", {1, 2}, object()])
def test_other_types_are_refused_by_name(content: object) -> None:
    with pytest.raises(ValueError, match=r"^content must be text, None, a list or a dict, not "):
        split_content(content)


def test_text_that_looks_like_an_inline_structure_is_kept_apart() -> None:
    text = INLINE_JSON + "[1]"
    stored, value, value_hash = split_content(text)
    assert stored == text
    assert value is not None
    assert json.loads(value) == text
    assert value_hash == text_hash(text)


def test_the_hash_is_of_the_utf_8_text() -> None:
    assert len(text_hash("")) == HASH_BYTES
    assert text_hash("é") != text_hash("e\u0301")


def test_content_nested_deeper_than_python_recurses_has_text() -> None:
    content: Any = ["bottom"]
    for _ in range(10_000):
        content = [content]
    assert content_text(content) == "bottom"
