"""JSONL transcripts: where they lie, what survives, what is skipped."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.gateway.transcripts import (
    append_line,
    encoded,
    read_lines,
    rewrite_lines,
    transcript_path,
)


def append_message(path: Path, message: dict[str, Any], *, durable: bool = False) -> str:
    return append_line(path, encoded(message), durable=durable)


def rewrite_messages(path: Path, messages: list[dict[str, Any]]) -> None:
    rewrite_lines(path, map(encoded, messages))


def read_messages(path: Path) -> list[dict[str, Any]]:
    return [line.message for line in read_lines(path)]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
messages = st.dictionaries(st.text(), values, max_size=4)


@pytest.mark.parametrize("session_id", ["20260504_123015_0a1b2c3d", "ü 東", ".hidden", "a.b", "-x"])
def test_a_transcript_lies_in_its_directory(session_id: str) -> None:
    assert transcript_path(Path("/d"), session_id) == Path(f"/d/{session_id}.jsonl")


@pytest.mark.parametrize(
    "session_id", ["", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", "a..b", "/"]
)
def test_an_id_that_leads_elsewhere_is_refused(session_id: str) -> None:
    with pytest.raises(ValueError, match="cannot name a file, allowed is"):
        transcript_path(Path("/d"), session_id)


@given(st.text())
def test_no_id_leads_out_of_the_directory(session_id: str) -> None:
    try:
        path = transcript_path(Path("/d"), session_id)
    except ValueError:
        return
    assert path.parent == Path("/d")
    assert os.path.normpath(path) == str(path)


@given(st.lists(messages, max_size=5), st.lists(messages, max_size=5))
def test_messages_come_back_unchanged_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    rewritten: list[dict[str, Any]],
    appended: list[dict[str, Any]],
) -> None:
    path = tmp_path_factory.mktemp("transcripts") / "s.jsonl"
    rewrite_messages(path, rewritten)
    for message in appended:
        append_message(path, message)
    assert read_messages(path) == rewritten + appended


def test_a_transcript_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_messages(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    "line", [b'{"role": "us', b"\xff\xfe", b"[1]", b"null", b'"x"', b"[" * 100_000, b"\0\0\0"]
)
def test_a_corrupt_line_is_skipped_with_a_warning(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"n": 1}\n' + line + b'\n\n{"n": 2}\r\n{"n": 3}')
    assert read_messages(path) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{path}: line 2 cannot be read" in caplog.text


def test_a_message_after_a_torn_one_is_not_torn_with_it(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2, "con')
    append_message(path, {"n": 3})
    append_message(path, {"n": 4})
    assert path.read_bytes() == b'{"n": 1}\n{"n": 2, "con\n{"n": 3}\n{"n": 4}\n'


def test_a_line_has_the_key_that_it_was_given_when_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'torn\n\n{"n": 1, "con')
    keys = [append_message(path, {"n": n}) for n in (2, 2, 3)]
    lines = read_lines(path)
    assert [line.key for line in lines] == keys
    assert len(set(keys)) == 3
    assert [line.number for line in lines] == [4, 5, 6]
    shorter = tmp_path / "t.jsonl"
    rewrite_messages(shorter, [{"n": 2}, {"n": 3}])
    assert not {line.key for line in read_lines(shorter)} & set(keys)


@pytest.mark.parametrize(
    ("message", "error"),
    [({"x": float("nan")}, ValueError), ({"x": b"bytes"}, TypeError), ({"x": {1}}, TypeError)],
)
def test_what_is_not_json_is_refused_and_changes_nothing(
    tmp_path: Path, message: dict[str, Any], error: type[Exception]
) -> None:
    path = tmp_path / "s.jsonl"
    rewrite_messages(path, [{"n": 1}])
    with pytest.raises(error):
        append_message(path, message)
    with pytest.raises(error):
        rewrite_messages(path, [{"n": 2}, message])
    assert read_messages(path) == [{"n": 1}]


def test_a_rewrite_that_fails_leaves_the_old_transcript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.jsonl"
    rewrite_messages(path, [{"n": 1}])

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="input/output"):
            rewrite_messages(path, [{"n": 2}])
    assert read_messages(path) == [{"n": 1}]


def test_only_a_durable_append_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    append_message(tmp_path / "s.jsonl", {"n": 1})
    assert synced == []
    append_message(tmp_path / "s.jsonl", {"n": 2}, durable=True)
    assert len(synced) == 1
