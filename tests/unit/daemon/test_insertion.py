"""Rows that are inserted together: the answers are those of rows inserted one by one."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sessiond.sqlite.insertion import Insertion
from sessiond.work import Fate, Outcome
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import (
    Message,
    MessageAppend,
    MessageAppendMany,
    MessageClear,
    MessageReplace,
    Unchanged,
)
from sessiond_protocol.requests.session import SessionCreate, SessionDelete, SessionPruneSlice
from tests.unit.daemon.stores import (
    Opened,
    appending,
    foreign,
    foreign_message,
    message,
    opened,
    together,
    with_two_messages,
    works,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with with_two_messages(tmp_path / "state.db") as made:
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


@pytest.mark.parametrize("count", [63, 64, 65, 128, 200])
def test_many_appends_keep_their_order_and_their_ids(file: Opened, count: int) -> None:
    file.results(appending("s", "taught"), appending("t", "taught"))
    ids = file.results(*(appending("st"[number % 2], f"n{number}") for number in range(count)))
    assert ids == list(range(5, 5 + count))
    assert stored(file)[4:] == [(5 + n, "st"[n % 2], f"n{n}") for n in range(count)]
    assert file.check().sound


def test_a_row_that_cannot_be_stored_fails_alone_among_many(file: Opened) -> None:
    file.results(appending("s", "taught"))
    texts = [f"n{number}" for number in range(70)]
    texts[40] = "not this"
    file.rows("CREATE UNIQUE INDEX no_other ON messages (content) WHERE content = 'not this'")
    file.results(appending("t", "not this"))
    outcomes = file.apply(*(appending("s", text) for text in texts))
    assert [n for n, each in enumerate(outcomes) if each.fate is not Fate.APPLIED] == [40]
    assert [text for _, _, text in stored(file)][4:] == texts[:40] + texts[41:]
    assert file.check().sound


def test_one_that_meets_a_defect_fails_alone(file: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_once(content: str) -> str | None:
        if content == "défaut":
            raise ZeroDivisionError("a defect")
        return None

    monkeypatch.setattr("sessiond.sqlite.search_index.pairs_of", fails_once)
    before, failed, after = file.apply(*(appending("s", text) for text in ("a", "défaut", "é")))
    assert [each.fate for each in (before, failed, after)] == [
        Fate.APPLIED, Fate.FAILED, Fate.APPLIED,
    ]  # fmt: skip
    assert failed.error == ("internal", "ZeroDivisionError: a defect", None)
    assert [text for _, _, text in stored(file)][2:] == ["a", "é"]
    assert file.rows("SELECT message_count FROM sessions WHERE id = 's'") == [(3,)]


def test_whoever_looks_at_messages_sees_those_before(file: Opened) -> None:
    many = MessageAppendMany(session_id="s", messages=[message("a"), message("b")])
    results = file.results(
        appending("s", "gone"), many, MessageClear(session_id="s"),
        appending("s", "kept", "key"), appending("s", "again", "key"), appending("s", "last"),
    )  # fmt: skip
    assert results == [3, [4, 5], None, 6, 6, 7]
    assert stored(file) == [(2, "t", "the second"), (6, "s", "kept"), (7, "s", "last")]
    assert file.check().sound


def test_a_list_of_plain_messages_is_told_its_ids_and_counted(file: Opened) -> None:
    calling = replace(message("text"), tool_calls="[1, 2]", tool_call_count=2)
    many = MessageAppendMany(session_id="s", messages=[message("中文 text"), calling, calling])
    results = file.results(appending("s", "taught"), many, appending("s", "after"), many)
    assert results == [3, [4, 5, 6], 7, [8, 9, 10]]
    assert [text for _, _, text in stored(file)][3:6] == ["中文 text", "text", "text"]
    assert file.rows("SELECT message_count, tool_call_count FROM sessions WHERE id = 's'") == [
        (9, 8)
    ]
    assert file.found("text") == [4, 5, 6, 8, 9, 10]
    assert file.rows("SELECT message_id FROM sessiond_cjk") == [(4,), (8,)]
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
    monkeypatch.setattr(
        Insertion, "inserted", lambda self, name, last, time: learn(self, name, last + 7, time)
    )
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


# --- together as one by one --------------------------------------------------------------------

# Mostly what is inserted together: a failure has the whole batch inserted row by row.
_session = st.sampled_from(("s",) * 10 + ("t",) * 8 + ("u", "nobody"))
_rich = st.builds(
    lambda text, key, parts, calls, when: Message(
        role="user", timestamp=when, content=text, message_key=key, tool_call_count=calls,
        content_value=parts, tool_calls=f"[{', '.join(['1'] * calls)}]" if calls else None,
    ),
    st.sampled_from(("", "plain", "plain", "größer", "中文 text", "x\0y", "big " * 3_000)),
    st.sampled_from((None, None, "k1")),
    st.sampled_from((None, None, '[{"type":"text","text":"x"}]')),
    st.integers(0, 2),
    # Not a number is NULL to SQLite: a row that passes every check but the table's own.
    st.sampled_from((1.0,) * 27 + (0.5, 2.0, 2.0, float("nan"))),
)  # fmt: skip
_plain = _rich.map(lambda rich: replace(rich, message_key=None, content_value=None))
_rows = st.one_of(st.lists(_rich, max_size=4), st.lists(_plain, max_size=4))
_state = st.one_of(
    st.none(), st.builds(Unchanged, unmarked=st.booleans(), message_count=st.integers(0, 3))
)
_append = st.builds(MessageAppend, _session, _rich)
_others = st.one_of(
    st.builds(MessageAppendMany, _session, _rows),
    st.builds(MessageReplace, _session, _rows, st.booleans(), _state),
    st.builds(MessageClear, _session),
    st.builds(SessionDelete, _session),
    st.builds(SessionCreate, st.sampled_from(("s", "t", "u")), st.just("x"), st.just(1.0)),
    st.just(SessionPruneSlice(before=100.0, limit=1)),
)
_one = st.sampled_from((_append,) * 4 + (_others,)).flatmap(lambda drawn: drawn)
_several = st.lists(_one, min_size=1, max_size=3).map(lambda them: together(*them))
_requests = st.lists(
    st.sampled_from((_one,) * 6 + (_several,)).flatmap(lambda drawn: drawn), min_size=1, max_size=9
)
# What another program may have made of the table of messages, and how many pages are free.
_TRIGGERS = (
    None,
    None,
    "CREATE UNIQUE INDEX theirs ON messages (session_id, content) WHERE content = 'plain'",
    "CREATE TRIGGER theirs AFTER INSERT ON messages WHEN new.content = 'plain' BEGIN INSERT INTO"
    " messages (session_id, role, content, timestamp) VALUES (new.session_id, 'x', 'more', 2); END",
    "CREATE TRIGGER theirs BEFORE INSERT ON messages WHEN new.content = 'plain'"
    " BEGIN SELECT RAISE(ABORT, 'not here'); END",
)
_TABLES = (
    "messages", "sessions", "sessiond_message_keys", "sessiond_content",
    "(SELECT session_id, 0 FROM sessiond_transcripts)",
    "(SELECT session_id, 0 FROM sessiond_disorder)",
    "(SELECT seq, 0 FROM sqlite_sequence WHERE name = 'messages')",
)  # fmt: skip


def _told(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.fate, bytes(outcome.result or b""), outcome.error


def _all(file: Opened) -> str:
    return repr([file.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in _TABLES])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batches=st.lists(
        st.tuples(_requests, st.one_of(st.none(), st.none(), st.integers(0, 12))),
        min_size=1,
        max_size=6,
    ),
    theirs=st.sampled_from(_TRIGGERS),
)
def test_a_batch_is_what_its_requests_are_one_by_one(
    batches: list[tuple[list[Request[Any]], int | None]], theirs: str | None
) -> None:
    """Answers, ids, rows, counters and events; of a batch that met a full disk, what fitted."""
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(Path(folder) / "together.db") as side_by_side,
        opened(Path(folder) / "alone.db") as alone,
    ):
        for each in (side_by_side, alone):
            each.append("s", "one")
            each.append("t", "two")
            if theirs is not None:
                with foreign(each.path) as other:
                    other.execute(theirs)
        for requests, room in batches:
            if room is not None:
                limit = side_by_side.value("PRAGMA page_count") + room
                side_by_side.rows(f"PRAGMA max_page_count = {limit}")
            applied = side_by_side.store.apply(works(*requests))
            side_by_side.rows("PRAGMA max_page_count = 1000000")
            events = []
            for request, outcome in zip(requests, applied.outcomes, strict=True):
                if outcome.fate is Fate.REFUSED:
                    assert room is not None, outcome
                    continue
                alone.store._insertions.forget()
                by_itself = alone.store.apply(works(request))
                assert _told(outcome) == _told(by_itself.outcomes[0])
                events += by_itself.events
            assert applied.events == events
            assert _all(side_by_side) == _all(alone)
        if theirs is None:
            assert side_by_side.check().sound
