"""Bursts in a store: exactly once however they come again, and each append's failure alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.sqlite.batch import Batch
from sessiond.sqlite.handlers import HANDLERS
from sessiond.sqlite.receipts import Channels
from sessiond.sqlite.store import Store
from sessiond.work import Appended, Burst, Entry, Fate
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.receipts import IdReceipts
from sessiond_protocol.requests.message import Message, MessageAppend, MessageClear
from tests.unit.daemon.sending import CLIENT, OTHER, Peer, burst, entries, frame, texts, told
from tests.unit.daemon.stores import Opened, appending, foreign, opened, with_two_messages

A, R, F = Fate.APPLIED, Fate.REPLAYED, Fate.FAILED


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with with_two_messages(tmp_path / "state.db") as made:
        yield made


def stored(file: Opened) -> list[tuple[int, str]]:
    """Messages from the third on."""
    return file.rows("SELECT id, content FROM messages WHERE id > 2 ORDER BY id")


def named(*numbers: int, first_id: int = 3) -> list[tuple[int, str]]:
    return [(first_id + n, f"n{number}") for n, number in enumerate(numbers)]


def reopened(file: Opened) -> None:
    """What the daemon knew is gone; the file is there."""
    file.store = Store(file.connection, lock_timeout=0.0, clock=file.clock)


def fates(entries: list[Any]) -> list[Fate]:
    return [fate for _, fate, _, _ in entries]


def results(entries: list[Any]) -> list[Any]:
    return [result for _, _, result, _ in entries]


# --- what is stored ----------------------------------------------------------------------------


def calling(session: str, text: str | None, calls: int) -> MessageAppend:
    message = Message(
        role="user",
        timestamp=1.0,
        content=text,
        tool_calls=f"[{', '.join(['1'] * calls)}]" if calls else None,
        tool_call_count=calls,
    )
    return MessageAppend(session_id=session, message=message)


def test_messages_counters_and_indexes(file: Opened) -> None:
    made = burst(
        calling("s", "plain", 2), calling("t", "中文 text", 0), calling("s", None, 0),
        calling("t", "größer", 3), calling("s", "日本語", 1), calling("t", "plain", 0),
    )  # fmt: skip
    applied = file.store.apply([made])
    assert [type(each) for each in applied.outcomes] == [Appended]
    assert told(applied) == [(seq, A, 2 + seq, None) for seq in range(1, 7)]
    assert (applied.last_message_id, applied.runs) == (8, 1)
    assert file.rows("SELECT session_id, content FROM messages WHERE id > 2 ORDER BY id") == [
        (each.session_id, each.message.content) for each in made.requests
    ]
    assert file.rows("SELECT id, message_count, tool_call_count FROM sessions ORDER BY id") == [
        ("s", 4, 3), ("t", 4, 3),
    ]  # fmt: skip
    assert file.found("plain") == [3, 8]
    assert file.found("größer") == [6]
    assert file.rows("SELECT message_id FROM sessiond_cjk ORDER BY 1") == [(4,), (7,)]
    assert file.check().sound


def test_bursts_of_several_channels_and_single_requests_share_a_batch(file: Opened) -> None:
    other = Peer(OTHER)
    batch: list[Entry] = [
        texts(3), texts(2, session="t", peer=other), *entries([frame(MessageClear("t"), 4, 4)]),
        texts(2, seq=5), texts(2, seq=3, session="t", peer=other),
    ]  # fmt: skip
    applied = file.store.apply(batch)
    assert applied.works == batch
    assert results(told(applied)) == [3, 4, 5, 6, 7, None, 8, 9, 10, 11]
    assert file.rows("SELECT id FROM messages WHERE session_id = 't'") == [(10,), (11,)]
    assert file.rows("SELECT message_count FROM sessions ORDER BY id") == [(6,), (2,)]
    assert [file.store.status(CLIENT, seq) for seq in (1, 6, 7)] == [
        "applied", "applied", "not_applied",
    ]  # fmt: skip
    assert file.check().sound


def test_the_memory_of_a_burst_is_one_object_until_its_last_is_confirmed(file: Opened) -> None:
    file.store.apply([texts(4), texts(3, seq=5)])
    channel = file.store._channels.get(CLIENT)
    assert [type(each) for each in channel.receipts.values()] == [IdReceipts] * 2
    file.store.apply([texts(2, seq=8, floor=4)])
    assert list(channel.receipts) == [1, 5, 8]
    file.store.apply([texts(2, seq=10, floor=5)])
    assert list(channel.receipts) == [5, 8, 10]
    assert Channels(file.connection).get(CLIENT).status(5) == "applied"


@pytest.mark.parametrize(("key", "value"), [("k1", None), (None, '[{"type":"text","text":"x"}]')])
def test_what_needs_a_look_of_its_own_is_stored_none_the_less(
    file: Opened, key: str | None, value: str | None
) -> None:
    message = Message(role="user", timestamp=1.0, content="x", message_key=key, content_value=value)
    made = burst(appending("s", "n1"), MessageAppend("s", message), appending("s", "n3"))
    assert told(file.store.apply([made])) == [(seq, A, 2 + seq, None) for seq in (1, 2, 3)]
    assert stored(file) == [(3, "n1"), (4, "x"), (5, "n3")]
    keys = file.rows("SELECT key, message_id FROM sessiond_message_keys")
    values = file.rows("SELECT value, message_id FROM sessiond_content")
    assert keys + values == [(key or value, 4)]
    assert file.check().sound


# --- exactly once ------------------------------------------------------------------------------

WHEN = ("in the same batch", "in a later one", "after a restart")


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize(
    "cuts", [[(1, 6)], [(1, 3)], [(4, 3)], [(2, 4)], [(1, 2), (3, 4)], [(3, 1)], [(2, 5), (2, 5)]]
)
def test_what_comes_again_is_answered_as_before(
    file: Opened, when: str, cuts: list[tuple[int, int]]
) -> None:
    again: list[Entry] = []
    for seq, count in cuts:
        frames = [frame(appending("s", f"n{n}"), n, n) for n in range(seq, seq + count)]
        again += entries(frames)
    if when == "in the same batch":
        answers = told(file.store.apply([texts(6), *again]))[6:]
    else:
        file.store.apply([texts(6)])
        if when == "after a restart":
            reopened(file)
        answers = told(file.store.apply(again))
    expected = [n for seq, count in cuts for n in range(seq, seq + count)]
    assert answers == [(n, R, 2 + n, None) for n in expected]
    assert stored(file) == named(1, 2, 3, 4, 5, 6)
    assert file.rows("SELECT message_count FROM sessions") == [(7,), (1,)]
    assert file.check().sound


@pytest.mark.parametrize("when", WHEN)
def test_what_is_new_behind_what_comes_again_is_stored(file: Opened, when: str) -> None:
    first, again = texts(4), texts(5, seq=3)
    if when == "in the same batch":
        answers = told(file.store.apply([first, again]))[4:]
    else:
        file.store.apply([first])
        if when == "after a restart":
            reopened(file)
        answers = told(file.store.apply([again]))
    assert answers == [(n, R if n < 5 else A, 2 + n, None) for n in range(3, 8)]
    assert stored(file) == named(*range(1, 8))


@given(
    cuts=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=8),
    restarts=st.sets(st.integers(0, 7)),
)
@settings(max_examples=40, deadline=None)
def test_however_it_is_cut_every_number_has_one_message(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int]], restarts: set[int]
) -> None:
    with opened(tmp_path_factory.mktemp("cut") / "state.db") as file:
        file.append("s", "the first", "the second")
        last = 0
        for turn, (seq, count) in enumerate(cuts):
            frames = [frame(appending("s", f"n{n}"), n, n) for n in range(seq, seq + count)]
            for number, _, result, error in told(file.store.apply(entries(frames))):
                if seq > last + 1:
                    assert error[0] == "out_of_order"
                else:
                    assert result == 2 + number
            if seq <= last + 1:
                last = max(last, seq + count - 1)
            if turn in restarts:
                reopened(file)
        assert stored(file) == named(*range(1, last + 1))


def test_another_text_under_a_used_number_is_a_conflict_for_it_alone(file: Opened) -> None:
    file.store.apply([texts(4)])
    again = burst(*(appending("s", text) for text in ("n1", "n2", "other", "n4", "n5")))
    for _ in range(2):
        answers = told(file.store.apply([again]))
        assert fates(answers)[:4] == [R, R, F, R]
        assert answers[2][3][0] == "conflict"
        reopened(file)
    assert stored(file) == named(1, 2, 3, 4, 5)


def test_a_floor_that_a_burst_brings_holds_for_what_comes_again(file: Opened) -> None:
    file.store.apply([texts(4)])
    frames = [frame(appending("s", f"n{n}"), n, n, floor=n - 3) for n in (5, 6, 7)]
    (outcome,) = file.store.apply(entries(frames)).outcomes
    assert isinstance(outcome, Appended)
    for _ in range(2):
        assert [file.store.status(CLIENT, seq) for seq in (3, 4)] == ["unknown", "applied"]
        assert fates(told(file.store.apply([texts(7)]))) == [Fate.DROPPED] * 3 + [R] * 4
        reopened(file)
    assert stored(file) == named(*range(1, 8))


def test_numbers_that_were_given_up_are_passed(file: Opened) -> None:
    file.store.apply([texts(2)])
    assert fates(told(file.store.apply([texts(2, seq=5)]))) == [Fate.REFUSED] * 2
    (outcome,) = file.store.apply([texts(2, seq=5, floor=5)]).outcomes
    assert isinstance(outcome, Appended)
    assert stored(file) == named(1, 2, 5, 6)
    assert fates(told(file.store.apply([texts(4, seq=3, floor=3)]))) == [
        Fate.DROPPED, Fate.DROPPED, R, R,
    ]  # fmt: skip


# --- what goes wrong ---------------------------------------------------------------------------


def all_but_the_third(file: Opened, code: str, made: Burst) -> None:
    """The third of five has this error, however often it comes; all others are stored."""
    applied = file.store.apply([made])
    answers = told(applied)
    assert fates(answers) == [A, A, F, A, A]
    assert answers[2][3][0] == code
    assert results(answers) == [3, 4, None, 5, 6]
    for _ in range(2):
        again = told(file.store.apply([made]))
        assert fates(again) == [R] * 5
        assert [answer[2:] for answer in again][:2] == [(3, None), (4, None)]
        assert again[2][3][0] == code
        reopened(file)
    assert [content for _, content in stored(file)] == ["n1", "n2", "n4", "n5"]
    assert file.rows("SELECT message_count FROM sessions WHERE id = 's'") == [(5,)]
    assert file.check().sound


def test_a_session_that_is_not_known_to_exist_costs_no_second_run(file: Opened) -> None:
    made = burst(appending("nobody", "n1"), appending("s", "n2"))
    applied = file.store.apply([made])
    assert (applied.runs, fates(told(applied))) == (1, [F, A])
    reopened(file)
    applied = file.store.apply([texts(2, seq=3, session="t")])
    assert (applied.runs, results(told(applied))) == (1, [4, 5])


def five(third: MessageAppend) -> Burst:
    appends = [appending("s", f"n{number}") for number in range(1, 6)]
    return burst(*appends[:2], third, *appends[3:])


def test_one_of_an_unknown_session_fails_alone(file: Opened) -> None:
    all_but_the_third(file, "integrity", five(appending("nobody", "n3")))


def test_one_whose_row_cannot_be_stored_fails_alone(file: Opened) -> None:
    file.rows("CREATE UNIQUE INDEX theirs ON messages (content) WHERE content = 'the second'")
    all_but_the_third(file, "integrity", five(appending("s", "the second")))


def test_one_that_meets_a_defect_fails_alone(file: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_once(content: str) -> str | None:
        if content == "défaut":
            raise ZeroDivisionError("a defect")
        return None

    monkeypatch.setattr("sessiond.sqlite.search_index.pairs_of", fails_once)
    all_but_the_third(file, "internal", five(appending("s", "défaut")))


def test_one_that_fails_after_it_was_stored_fails_alone(
    file: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    append: Any = HANDLERS[MessageAppend]

    def tripping(batch: Batch, request: MessageAppend) -> Any:
        stored = append(batch, request)
        if request.message.message_key == "trip":
            raise Failure(Code.INTEGRITY, "tripped")
        return stored

    handlers: dict[Any, Any] = HANDLERS
    monkeypatch.setitem(handlers, MessageAppend, tripping)
    all_but_the_third(file, "integrity", five(appending("s", "n3", "trip")))


def test_one_whose_time_is_up_fails_alone(file: Opened) -> None:
    frames = [
        frame(appending("s", f"n{n}"), n, n, **({"ttl": 0.0} if n == 3 else {}))
        for n in range(1, 6)
    ]
    (made,) = entries(frames)
    assert isinstance(made, Burst)
    all_but_the_third(file, "timeout", made)


def refused(file: Opened, *made: Entry) -> list[str]:
    """Nothing of this is stored, and each is told so; why."""
    answers = told(file.store.apply(made))
    assert fates(answers) == [Fate.REFUSED] * len(answers)
    assert [error[2] for *_, error in answers] == [{"applied": False}] * len(answers)
    assert stored(file) == []
    return [error[0] for *_, error in answers]


def test_a_full_disk_refuses_every_append_and_decides_nothing(file: Opened) -> None:
    long = [appending("s", f"{number} " * 20_000) for number in range(4)]
    file.rows(f"PRAGMA max_page_count = {file.value('PRAGMA page_count')}")
    assert refused(file, burst(*long)) == ["disk_full"] + ["out_of_order"] * 3
    file.rows("PRAGMA max_page_count = 1000000")
    assert results(told(file.store.apply([burst(*long)]))) == [3, 4, 5, 6]


def test_a_foreign_lock_refuses_every_append_and_decides_nothing(file: Opened) -> None:
    with foreign(file.path) as other:
        other.execute("BEGIN IMMEDIATE")
        assert refused(file, texts(3), texts(2, seq=4)) == ["database"] * 5
        other.execute("ROLLBACK")
    assert results(told(file.store.apply([texts(5)]))) == [3, 4, 5, 6, 7]


def test_what_was_decided_is_answered_although_nothing_can_be_stored(file: Opened) -> None:
    file.store.apply([texts(3)])
    with foreign(file.path) as other:
        other.execute("BEGIN IMMEDIATE")
        answers = told(file.store.apply([texts(3, seq=2)]))
        other.execute("ROLLBACK")
    assert fates(answers) == [R, R, Fate.REFUSED]
    assert results(answers) == [4, 5, None]


def test_ids_that_are_not_those_foretold_take_the_run_back(file: Opened) -> None:
    file.rows("UPDATE sqlite_sequence SET seq = 50 WHERE name = 'messages'")
    applied = file.store.apply([texts(3)])
    assert applied.runs == 2
    assert told(applied) == [(seq, A, 50 + seq, None) for seq in (1, 2, 3)]
    assert told(file.store.apply([texts(3)])) == [(seq, R, 50 + seq, None) for seq in (1, 2, 3)]


def test_a_burst_that_ends_the_transaction_leaves_the_others(
    file: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The culprit's place counts requests, not bursts."""
    append: Any = HANDLERS[MessageAppend]

    def ending(batch: Batch, request: MessageAppend) -> Any:
        if request.message.message_key == "end":
            batch.execute("ROLLBACK")
            raise ValueError("the end")
        return append(batch, request)

    handlers: dict[Any, Any] = HANDLERS
    monkeypatch.setitem(handlers, MessageAppend, ending)
    made = burst(appending("s", "n4"), appending("s", "n5", "end"), appending("s", "n6"), seq=4)
    applied = file.store.apply([texts(3), made, texts(2, seq=7)])
    assert applied.runs == 3
    assert fates(told(applied)) == [A, A, A, A, F, A, A, A]
    assert stored(file) == named(1, 2, 3, 4, 6, 7, 8)
