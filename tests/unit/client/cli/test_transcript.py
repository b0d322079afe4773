"""A transcript for people."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.cli import transcript, units

SESSION: dict[str, Any] = {
    "id": "s1",
    "title": None,
    "source": "cli",
    "model": None,
    "user_id": None,
    "parent_session_id": None,
    "started_at": 1000.0,
    "ended_at": None,
    "end_reason": None,
    "message_count": 2,
    "tool_call_count": 0,
    "input_tokens": 0,
    "output_tokens": None,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "reasoning_tokens": 0,
    "actual_cost_usd": None,
    "estimated_cost_usd": None,
}


def message(role: str, content: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "role": role,
        "content": content,
        "timestamp": 1000.0,
        "tool_name": None,
        "tool_calls": None,
        "reasoning": None,
        **fields,
    }


def shown(said: dict[str, Any], *, full: bool = False) -> list[str]:
    head, *rest = transcript.message_text(said, full=full).plain.split("\n")
    assert head.startswith(said["role"])
    assert head.endswith(f"{units.local_time(1000.0)}  #7")
    return rest


def test_unset_facts_are_left_out() -> None:
    assert transcript.session_facts(SESSION) == [
        ("session", "s1"),
        ("source", "cli"),
        ("started", units.local_time(1000.0)),
        ("messages", "2"),
    ]


def test_facts_that_are_set() -> None:
    session = {
        **SESSION,
        "title": "a\nb",
        "ended_at": 2000.0,
        "end_reason": "done",
        "tool_call_count": 1,
        "input_tokens": 1200,
        "cache_read_tokens": 3,
        "estimated_cost_usd": 0.5,
    }
    facts = dict(transcript.session_facts(session))
    assert facts["title"] == "a b"
    assert facts["ended"] == f"{units.local_time(2000.0)}, done"
    assert facts["messages"] == "2, 1 tool call"
    assert facts["tokens"] == "1,200 input, 3 cache read"
    assert facts["cost"] == "$0.5000 estimated"


def test_an_actual_cost_counts_more_than_an_estimate() -> None:
    facts = dict(
        transcript.session_facts({**SESSION, "actual_cost_usd": 0.0, "estimated_cost_usd": 2.0})
    )
    assert facts["cost"] == "$0.0000"


def test_text_is_indented_and_disarmed() -> None:
    assert shown(message("user", "one\n\ntwo\x1b[2J\n")) == ["  one", "", "  two␛[2J"]


def test_structured_content_shows_its_text_and_names_the_rest() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert shown(message("user", parts)) == ["  look", "  [image_url]"]


def test_an_empty_message_is_its_heading() -> None:
    assert shown(message("assistant")) == []


@pytest.mark.parametrize(
    ("calls", "lines"),
    [
        (None, []),
        ([], []),
        (
            [{"function": {"name": "look", "arguments": '{"at": "sky", "n": 2}'}}],
            ['→ look(at="sky", n=2)'],
        ),
        ([{"function": {"name": "f", "arguments": {"a": [1]}}}], ["→ f(a=[1])"]),
        ([{"function": {"name": "f", "arguments": "not json"}}], ["→ f(not json)"]),
        ([{"function": {"name": "f", "arguments": "[1]"}}], ["→ f([1])"]),
        ([{"function": {"name": "f"}}], ["→ f()"]),
        ([{"name": "old"}, 5], ['→ {"name": "old"}', "→ 5"]),
        ("raw text", ['→ "raw text"']),
        ({"function": {"name": "one"}}, ["→ one()"]),
    ],
)
def test_tool_calls_are_compact(calls: Any, lines: list[str]) -> None:
    assert list(transcript.tool_calls(calls, full=False)) == lines


def test_long_arguments_are_cut_unless_all_is_wanted() -> None:
    calls = [{"function": {"name": "f", "arguments": '{"a": "' + "x" * 500 + '"}'}}]
    [short] = transcript.tool_calls(calls, full=False)
    [long] = transcript.tool_calls(calls, full=True)
    assert len(short) < 120
    assert "…" in short
    assert "x" * 500 in long


def test_long_results_of_tools_are_cut_and_nothing_else_is() -> None:
    long = "\n".join(str(number) for number in range(100))
    tool = shown(message("tool", long))
    assert len(tool) == transcript.CUT_LINES + 1
    assert tool[-1].endswith("more characters, --full shows them")
    assert len(shown(message("tool", long), full=True)) == 100
    assert len(shown(message("user", long))) == 100


@given(st.text())
def test_cutting_says_exactly_how_much_is_left_out(text: str) -> None:
    short = transcript.cut(text)
    if short == text:
        return
    kept, _, rest = short.rpartition("\n… ")
    assert text.startswith(kept)
    assert rest.split()[0] == f"{len(text) - len(kept):,}"


def test_reasoning_is_counted_or_shown() -> None:
    said = message("assistant", "yes", reasoning="because")
    assert shown(said) == ["  reasoning: 7 characters", "  yes"]
    assert shown(said, full=True) == ["  reasoning: because", "  yes"]


def test_raw_texts_are_as_stored() -> None:
    said = [message("user", "a\x1b\n"), message("user", [{"type": "text", "text": "b"}])]
    assert list(transcript.raw_texts(said)) == ["a\x1b\n", "b"]
