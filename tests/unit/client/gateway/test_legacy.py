"""``sessions.json``: read once, kept, mirrored; nothing in it gets lost."""

import errno
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.gateway import Platform, SessionEntry, SessionSource
from sessiond_client.gateway.legacy import (
    COPY_NAME,
    LOCK_NAME,
    MIRROR_NAME,
    LegacyEntries,
    load_legacy,
    mirror_lock,
    read_legacy,
    write_mirror,
)

WHEN = datetime(2026, 5, 4, 12)
ENTRY = SessionEntry("k", "s", WHEN, WHEN, SessionSource.local_cli(), platform=Platform.LOCAL)
STRANGE = {"session_id": None, "new": [1, {"deep": float("inf")}], "text": "\ud800 ü"}


def mirror(sessions_dir: Path, content: object) -> Path:
    path = sessions_dir / MIRROR_NAME
    path.write_text(json.dumps(content))
    return path


def test_nothing_is_made_where_there_is_no_file(tmp_path: Path) -> None:
    assert load_legacy(tmp_path) == LegacyEntries()
    assert load_legacy(tmp_path / "none") == LegacyEntries()
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_copied_once_and_read_from_the_copy(tmp_path: Path) -> None:
    path = mirror(tmp_path, {"k": ENTRY.to_dict()})
    path.chmod(0o640)
    before = path.read_bytes()
    assert load_legacy(tmp_path).entries == {"k": ENTRY}
    mirror(tmp_path, {})
    assert load_legacy(tmp_path).entries == {"k": ENTRY}
    copy = tmp_path / COPY_NAME
    assert copy.read_bytes() == before
    assert copy.stat().st_mode & 0o777 == 0o640


def test_a_copy_that_fails_is_not_there_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror(tmp_path, {"k": ENTRY.to_dict()})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            load_legacy(tmp_path)
    assert not (tmp_path / COPY_NAME).exists()
    assert load_legacy(tmp_path).entries == {"k": ENTRY}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_file_that_cannot_be_read_is_kept_and_named(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / MIRROR_NAME).write_bytes(content)
    assert load_legacy(tmp_path) == LegacyEntries()
    assert (tmp_path / COPY_NAME).read_bytes() == content
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert COPY_NAME in caplog.text


@pytest.mark.parametrize("value", [STRANGE, None, "text", 7, [], {"session_id": "s"}])
def test_an_entry_that_cannot_be_read_is_named_and_carried_verbatim(
    tmp_path: Path, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = mirror(tmp_path, {"odd \n key": value, "k": ENTRY.to_dict()})
    legacy = load_legacy(tmp_path)
    assert legacy.entries == {"k": ENTRY}
    assert legacy.unreadable == {"odd \n key": value}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert repr("odd \n key") in caplog.text
    with mirror_lock(tmp_path):
        write_mirror(tmp_path, legacy.entries, legacy.unreadable)
    assert json.loads(path.read_bytes()) == {"odd \n key": value, "k": ENTRY.to_dict()}


def test_the_key_in_the_map_is_the_one_that_counts(tmp_path: Path) -> None:
    sparse = {"session_id": "s", "created_at": "2026-05-04T12:00:00", "updated_at": "2026-05-04"}
    path = mirror(tmp_path, {"a": ENTRY.to_dict(), "b": sparse})
    entries = read_legacy(path).entries
    assert {key: entry.session_key for key, entry in entries.items()} == {"a": "a", "b": "b"}


def test_what_only_this_version_cannot_name_survives_the_mirror(tmp_path: Path) -> None:
    origin = {"platform": "fax", "chat_id": "1", "number": 5}
    path = mirror(tmp_path, {"k": ENTRY.to_dict() | {"origin": origin, "platform": "fax"}})
    legacy = load_legacy(tmp_path)
    assert legacy.unreadable == {}
    write_mirror(tmp_path, legacy.entries)
    stored = json.loads(path.read_bytes())["k"]
    assert (stored["origin"], stored["platform"]) == (origin, "fax")


def test_a_key_that_has_an_entry_now_is_not_overwritten_by_what_was_found(tmp_path: Path) -> None:
    write_mirror(tmp_path, {"k": ENTRY}, {"k": "unreadable"})
    assert read_legacy(tmp_path / MIRROR_NAME).entries == {"k": ENTRY}


def test_a_mirror_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mirror(tmp_path, {"k": ENTRY})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_mirror(tmp_path, {})
    assert read_legacy(tmp_path / MIRROR_NAME).entries == {"k": ENTRY}
    assert [each.name for each in tmp_path.iterdir()] == [MIRROR_NAME]


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), json_values | st.just(ENTRY.to_dict()), max_size=4))
def test_no_file_stops_the_import_and_no_key_gets_lost(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    directory = tmp_path_factory.mktemp("sessions")
    path = mirror(directory, content)
    legacy = load_legacy(directory)
    write_mirror(directory, legacy.entries, legacy.unreadable)
    again = read_legacy(path)
    assert again == legacy
    assert again.entries.keys() | again.unreadable.keys() == content.keys()


def test_the_mirror_lock_is_a_file_of_its_own(tmp_path: Path) -> None:
    with mirror_lock(tmp_path):
        write_mirror(tmp_path, {"k": ENTRY})
    assert sorted(each.name for each in tmp_path.iterdir()) == [MIRROR_NAME, LOCK_NAME]
