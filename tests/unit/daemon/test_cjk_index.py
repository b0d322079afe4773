"""The pair index: which messages it holds, how far it has looked, and how it is mended."""

import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.sqlite.cjk_index import pairs_of, pairs_of_bytes, suspect
from sessiond_protocol.content import text_hash
from sessiond_protocol.requests.message import MessageClear
from sessiond_protocol.requests.session import SessionDelete
from sessiond_protocol.search import cjk
from tests.unit.daemon.stores import (
    Opened,
    appending,
    foreign,
    foreign_message,
    integrity,
    opened,
    together,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        yield made


def _pairs(file: Opened) -> dict[int, str]:
    return dict(file.rows("SELECT message_id, pairs FROM sessiond_cjk"))


def _cursor(file: Opened) -> int:
    cursor: int = file.value("SELECT cjk_cursor FROM sessiond_meta")
    return cursor


# --- which messages --------------------------------------------------------------------------


def test_no_character_that_matters_is_overlooked() -> None:
    matters = re.compile(f"[{cjk.CJK}{cjk.SIGNS}]")
    codes = (code for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    missed = [chr(code) for code in codes if matters.match(chr(code))]
    assert missed
    assert [each for each in missed if not suspect(f"text {each} text".encode())] == []


@given(st.text())
def test_the_fast_no_is_right(text: str) -> None:
    assert pairs_of(text) == cjk.pairs(text)


def test_ordinary_text_is_not_suspected() -> None:
    for text in ("plain", "Größe – „Zitat“ … • →", "Привет", "مرحبا", "नमस्ते", "✓ ok ✅"):
        assert not suspect(text.encode()), text


def test_bytes_that_are_no_text_do_not_raise() -> None:
    assert pairs_of_bytes(None) is None
    assert pairs_of_bytes(b"\xff\xfe") is None
    assert pairs_of_bytes("中文".encode() + b"\xff") == cjk.pairs("中文\ufffd")


# --- own batches -----------------------------------------------------------------------------


def test_messages_of_a_batch_are_paired_and_the_cursor_follows(file: Opened) -> None:
    file.append("a", "plain", "安装器", None, "日本")
    assert _pairs(file) == {2: cjk.pairs("安装器"), 4: cjk.pairs("日本")}
    assert _cursor(file) == 4
    integrity(file.connection)


def test_a_batch_without_such_text_touches_no_pair_table(file: Opened) -> None:
    file.append("a", "plain")
    with file.statements() as seen:
        file.append("a", "more", "Größe")
    assert [sql for sql in seen if "sessiond_cjk" in sql] == []


def test_deleted_messages_leave_no_pairs(file: Opened) -> None:
    file.append("a", "中文一")
    file.append("b", "中文二")
    file.results(
        appending("a", "中文三"),
        MessageClear(session_id="a"),
        SessionDelete(session_id="b"),
        appending("a", "plain"),
    )
    assert _pairs(file) == {}
    integrity(file.connection)


def test_a_rolled_back_part_leaves_no_pairs(file: Opened) -> None:
    file.append("a", "中文一")
    file.apply(together(appending("a", "中文二"), appending("no", "x")), appending("a", "中文三"))
    assert _pairs(file) == {1: cjk.pairs("中文一"), 2: cjk.pairs("中文三")}
    assert _cursor(file) == 2


def test_a_rolled_back_text_does_not_come_back_under_the_id_of_another(file: Opened) -> None:
    file.append("a", "one")
    file.apply(together(appending("a", "中文二"), appending("no", "x")), appending("a", "plain"))
    assert file.rows("SELECT content FROM messages WHERE id = 2") == [("plain",)]
    assert _pairs(file) == {}


def test_the_cursor_does_not_pass_an_id_that_was_rolled_back(file: Opened) -> None:
    file.append("a", "one")
    file.apply(together(appending("a", "中文"), appending("no", "x")))
    assert _cursor(file) == 1


# --- other programs --------------------------------------------------------------------------


def test_foreign_rows_are_picked_up_by_id(file: Opened) -> None:
    file.append("a", "one")
    with foreign(file.path) as other:
        foreign_message(other, "a", "外来の文")
    file.append("a", "own 中文")
    assert _cursor(file) == 1  # not past what nobody has looked at
    file.care()
    assert _cursor(file) == 3
    assert sorted(_pairs(file)) == [2, 3]
    file.append("a", "next 中文")
    assert _cursor(file) == 4
    integrity(file.connection)


def test_foreign_updates_and_deletes_are_mended(file: Opened) -> None:
    file.append("a", "中文一", "中文二", "plain", "中文四", "stays 中")
    file.settle()
    with foreign(file.path) as other:
        other.execute("UPDATE messages SET content = 'now plain' WHERE id = 1")
        other.execute("UPDATE messages SET content = '改变' WHERE id = 2")
        other.execute("UPDATE messages SET content = '新的' WHERE id = 3")
        other.execute("DELETE FROM messages WHERE id = 4")
    file.settle()
    assert _pairs(file) == {2: cjk.pairs("改变"), 3: cjk.pairs("新的"), 5: cjk.pairs("stays 中")}
    assert file.store.health()["index"]["mended"] == 4
    integrity(file.connection)


def test_our_delete_names_what_was_indexed_although_the_text_changed(file: Opened) -> None:
    file.append("a", "中文一")
    with foreign(file.path) as other:
        other.execute("UPDATE messages SET content = '改变' WHERE id = 1")
    file.results(SessionDelete(session_id="a"))
    assert _pairs(file) == {}
    integrity(file.connection)


def test_an_id_that_is_given_again_gets_new_pairs(file: Opened) -> None:
    file.append("a", "plain", "中文二", "中文三")
    with foreign(file.path) as other:
        other.execute("DELETE FROM messages WHERE id > 1")
        other.execute("DELETE FROM sqlite_sequence")
    assert file.append("a", "新的", "plain") == [2, 3]
    assert _pairs(file)[2] == cjk.pairs("新的")
    file.settle()
    assert _pairs(file) == {2: cjk.pairs("新的")}
    integrity(file.connection)


def test_stale_structure_and_orphaned_keys_go(file: Opened) -> None:
    file.append("a", "one")
    file.results(appending("a", "two", key="k2"), appending("a", "three", key="k3"))
    text = "INSERT INTO sessiond_content (message_id, value, text_hash) VALUES (?, '[]', ?)"
    for message_id, words in ((1, "one"), (2, "other words"), (77, "no message")):
        file.connection.execute(text, (message_id, text_hash(words)))
    with foreign(file.path) as other:
        other.execute("DELETE FROM messages WHERE id = 3")
    file.settle()
    assert file.rows("SELECT message_id FROM sessiond_content") == [(1,)]
    assert file.rows("SELECT key FROM sessiond_message_keys") == [("k2",)]


def test_a_pass_is_made_of_slices_and_writes_only_what_differs(file: Opened) -> None:
    for part in range(4):
        file.append("a", *(f"{'text ' * 400} {part} {number}" for number in range(100)))
    file.settle()
    passes, commits = file.store.health()["index"]["passes"], file.store.commits
    with foreign(file.path) as other:
        other.execute("UPDATE messages SET content = '改变' WHERE id = 250")
    turns = file.care()
    assert turns > 4
    assert file.store.health()["index"]["passes"] == passes + 1
    assert file.store.commits == commits + 1


def test_passes_are_not_made_all_the_time(file: Opened) -> None:
    file.append("a", "one")
    file.settle()
    passes = file.store.health()["index"]["passes"]
    with foreign(file.path) as other:
        for _ in range(5):
            foreign_message(other, "a", "more")
            file.care()
    assert file.store.health()["index"]["passes"] == passes + 1
    file.clock.advance(11)
    file.care()
    assert file.store.health()["index"]["passes"] == passes + 2


def test_rows_that_reach_no_trigger_are_noticed(file: Opened) -> None:
    """A program that runs without triggers leaves the index behind without touching it."""
    file.append("a", "one apple")
    file.settle()
    with foreign(file.path) as other:
        other.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        foreign_message(other, "a", "two apple")
    file.settle()
    assert file.found("apple") == [1, 2]
    assert file.store.health()["index"]["rebuilds"] == 1


# --- damage ----------------------------------------------------------------------------------


def test_a_damaged_pair_index_is_filled_anew(file: Opened) -> None:
    file.append("a", "中文一", "plain")
    with foreign(file.path) as other:
        other.execute("UPDATE sessiond_cjk_fts_data SET block = x'ffffffff' WHERE id = 10")
    file.append("a", "中文二")
    assert file.index_state.startswith("pair index damaged")
    file.results(MessageClear(session_id="a"))
    file.append("a", "中文三")
    file.settle()
    assert file.index_state == ""
    assert list(_pairs(file).values()) == [cjk.pairs("中文三")]
    assert file.check().sound
    integrity(file.connection)
    assert file.found("plain") == []
