"""Rows that are inserted together: the answers are those of rows inserted one by one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.sqlite.insertion import Insertion
from sessiond.work import Fate
from sessiond_protocol.requests.message import MessageAppendMany, MessageClear
from sessiond_protocol.requests.session import SessionDelete
from tests.unit.daemon.stores import (
    Opened,
    appending,
    foreign,
    foreign_message,
    message,
    opened,
    together,
    works,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("s", "the first")
        made.append("t", "the second")
        yield made


def stored(file: Opened) -> list[tuple[int, str, str]]:
    return file.rows("SELECT id, session_id, content FROM messages ORDER BY id")


def test_appends_side_by_side_get_the_ids_they_were_told(file: Opened) -> None:
    texts = [f"text {number}" for number in range(5)]
    ids = file.results(*(appending("st"[number % 2], text) for number, text in enumerate(texts)))
    assert ids == [3, 4, 5, 6, 7]
    assert stored(file)[2:] == [
        (identity, "st"[number % 2], text)
        for number, (identity, text) in enumerate(zip(ids, texts, strict=True))
    ]
    assert file.found("text") == ids
    assert file.rows("SELECT message_count FROM sessions ORDER BY id") == [(4,), (3,)]
    assert file.check().sound


def test_whoever_looks_at_messages_sees_those_before(file: Opened) -> None:
    many = MessageAppendMany(session_id="s", messages=[message("a"), message("b")])
    results = file.results(
        appending("s", "gone"), many, MessageClear(session_id="s"),
        appending("s", "kept", "key"), appending("s", "again", "key"), appending("s", "last"),
    )  # fmt: skip
    assert results == [3, [4, 5], None, 6, 6, 7]
    assert stored(file) == [(2, "t", "the second"), (6, "s", "kept"), (7, "s", "last")]
    assert file.check().sound


def test_a_session_that_went_in_between_fails_its_own_append_only(file: Opened) -> None:
    before, _, lost, empty, after = file.apply(
        appending("t", "before"), SessionDelete(session_id="s"), appending("s", "lost"),
        MessageAppendMany(session_id="s", messages=[]), appending("t", "after"),
    )  # fmt: skip
    assert [each.fate for each in (before, lost, empty, after)] == [
        Fate.APPLIED, Fate.FAILED, Fate.FAILED, Fate.APPLIED,
    ]  # fmt: skip
    assert lost.error is not None
    assert lost.error[0] == "integrity"
    assert [text for _, _, text in stored(file)] == ["the second", "before", "after"]
    assert file.check().sound


def test_another_programs_rows_take_their_ids(file: Opened) -> None:
    with foreign(file.path) as other:
        foreign_message(other, "s", "from elsewhere")
    assert file.results(appending("s", "one"), appending("s", "two")) == [4, 5]
    with foreign(file.path) as other:
        other.execute("UPDATE sqlite_sequence SET seq = 100 WHERE name = 'messages'")
    assert file.results(appending("s", "three"), appending("s", "four")) == [101, 102]


def test_a_batch_of_writes_among_them_counts_too(file: Opened) -> None:
    inner = together(appending("s", "x"), appending("t", "y"))
    results = file.results(appending("s", "a"), inner, appending("s", "b"), appending("s", "c"))
    assert results == [3, [4, 5], 6, 7]


def test_ids_that_are_not_those_foretold_take_the_run_back(
    file: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = Insertion.inserted
    monkeypatch.setattr(Insertion, "inserted", lambda self, name, last: learn(self, name, last + 7))
    file.store.reload()
    file.results(appending("s", "taught wrongly"))
    applied = file.store.apply(works(appending("s", "a"), appending("s", "b"), appending("s", "c")))
    assert applied.runs == 2
    assert [each.fate for each in applied.outcomes] == [Fate.APPLIED] * 3
    assert [identity for identity, _, _ in stored(file)] == [1, 2, 3, 4, 5, 6]
    assert file.check().sound


def test_a_run_that_was_taken_back_leaves_nothing_to_go_on_from(file: Opened) -> None:
    file.results(appending("s", "a"), appending("t", "b"))
    file.results(SessionDelete(session_id="s"))
    outcomes = file.apply(appending("t", "c"), appending("s", "d"), appending("t", "e"))
    assert [each.fate for each in outcomes] == [Fate.APPLIED, Fate.FAILED, Fate.APPLIED]
    assert file.results(appending("t", "f"), appending("t", "g")) == [7, 8]
