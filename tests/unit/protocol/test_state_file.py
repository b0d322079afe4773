"""What a daemon says of itself beside the database."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.state_file import MAX_BYTES, State, StateFile, parse, read

_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_states = st.builds(
    StateFile,
    pid=st.integers(1, 2**31),
    state=st.sampled_from(State),
    start_time=st.floats(0, 2**40),
    boot_id=_text,
    socket=_text,
    generation=_text,
    commits=st.integers(0, 2**63 - 1),
    message=_text,
    stray_log=_text,
)


@given(_states)
def test_what_is_rendered_is_parsed(state: StateFile) -> None:
    assert parse(state.render()) == state


@given(_states, st.data())
def test_a_torn_file_is_none_or_whole(state: StateFile, data: st.DataObject) -> None:
    whole = state.render().rstrip()
    assert parse(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@given(st.binary(max_size=200))
def test_garbage_is_none_and_no_error(data: bytes) -> None:
    assert parse(data) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"pid": 0},
        {"pid": "12"},
        {"commits": -1},
        {"state": "dancing"},
        {"socket": "/a\0b"},
        {"start_time": None},
    ],
)
def test_impossible_values_are_none(changed: dict[str, object]) -> None:
    content = {"pid": 1, "state": "serving", "start_time": 1.5, **changed}
    assert parse(msgspec.json.encode(content)) is None


def test_deep_nesting_is_none() -> None:
    head = b'{"pid": 1, "state": "serving", "start_time": 1, "more": '
    assert parse(head + b"[" * 30_000) is None


def test_fields_of_a_newer_daemon_are_ignored() -> None:
    content = {"pid": 1, "state": "serving", "start_time": 1.5, "news": [1]}
    assert parse(msgspec.json.encode(content)) == StateFile(1, State.SERVING, 1.5)


def test_people_can_read_it() -> None:
    text = StateFile(12, State.SERVING, 1.5, socket="/run/x.sock").render().decode()
    assert '\n  "state": "serving"' in text
    assert text.endswith("}\n")


def test_a_socket_path_that_is_not_utf_8_is_left_out_and_a_message_escaped() -> None:
    state = StateFile(12, State.FAILED, 1.5, socket="/\udcff", message="/\udcff is gone")
    assert parse(state.render()) == StateFile(12, State.FAILED, 1.5, message="/\\udcff is gone")


def test_a_file_is_read(tmp_path: Path) -> None:
    state = StateFile(12, State.STOPPED, 1.5, commits=7)
    (tmp_path / "s").write_bytes(state.render())
    assert read(str(tmp_path / "s")) == state


def test_no_file_is_none(tmp_path: Path) -> None:
    assert read(str(tmp_path / "none")) is None
    assert read(str(tmp_path)) is None
    assert read("a\0b".replace("\0", "/" * 300)) is None


def test_a_pipe_in_its_place_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s")
    assert read(str(tmp_path / "s")) is None


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(StateFile(1, State.SERVING, 1.5).render())
    (tmp_path / "s").symlink_to(tmp_path / "real")
    assert read(str(tmp_path / "s")) is None


def test_a_huge_file_is_not_a_state_file(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(StateFile(1, State.SERVING, 1.5).render() + b" " * MAX_BYTES)
    assert read(str(tmp_path / "s")) is None
