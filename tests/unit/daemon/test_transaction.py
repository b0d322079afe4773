"""Runs of a batch: each request alone, whatever its neighbours do, and exactly once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.sqlite.batch import Batch
from sessiond.sqlite.handlers import HANDLERS
from sessiond.sqlite.receipts import Channels
from sessiond.sqlite.transaction import decode_item
from sessiond.work import Fate, Outcome, Work
from sessiond_protocol import channel as channel_rules
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.receipts import digest
from sessiond_protocol.requests import REQUESTS, Kind, Request
from sessiond_protocol.requests.server import BatchApply, Item, RequestStatus
from sessiond_protocol.requests.session import (
    SessionCreate,
    SessionEnsure,
    SessionReopen,
    SessionSetTitle,
)
from tests.unit.daemon.stores import Opened, appending, opened, together, works

CLIENT = bytes(16)
OTHER = b"\1" * 16
FOREVER = float("inf")

Handler = Callable[[Batch, Any], Any]


class Peer:
    """A connection that said hello."""

    closed = False

    def __init__(self, client_id: bytes | None = CLIENT) -> None:
        self.client_id = client_id


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.append("s")
        yield made


@pytest.fixture
def trick(monkeypatch: pytest.MonkeyPatch) -> Callable[[Handler], None]:
    """Puts a handler in the place of the one for ``session.reopen``, which ``TRICK`` asks for."""

    def put(handler: Handler) -> None:
        handlers: dict[Any, Handler] = HANDLERS
        monkeypatch.setitem(handlers, SessionReopen, handler)

    return put


TRICK = SessionReopen(session_id="s")


def numbered(
    seq: int,
    request: Request[Any],
    *,
    floor: int = 1,
    client_id: bytes = CLIENT,
    deadline: float = FOREVER,
    failure: Failure | None = None,
) -> Work:
    identity = digest(request.METHOD, msgspec.msgpack.encode(request))
    return Work(Peer(client_id), seq, request, 0.0, deadline, 100, seq, floor, identity, failure)


def ensuring(session: str) -> SessionEnsure:
    return SessionEnsure(session_id=session, started_at=1.0)


def code(outcome: Outcome) -> str | None:
    return None if outcome.error is None else outcome.error[0]


def codes(outcomes: list[Outcome]) -> list[str | None]:
    return [code(each) for each in outcomes]


def result(outcome: Outcome) -> Any:
    return msgspec.msgpack.decode(outcome.result or b"")


def texts(file: Opened) -> list[str]:
    return [row[0] for row in file.rows("SELECT content FROM messages ORDER BY id")]


def statuses(file: Opened, *numbers: int) -> list[str]:
    """As the file has it, not memory."""
    found = Channels(file.connection).get(CLIENT)
    return [found.status(seq) for seq in numbers]


def fail_after_change(batch: Batch, _request: Any) -> None:
    batch.execute("INSERT INTO sessions (id, source, started_at) VALUES ('mark', 'x', 1)")
    batch.last_message_id = 999
    raise ValueError("after a change")


def end_transaction(batch: Batch, _request: Any) -> None:
    batch.execute("ROLLBACK")
    raise apsw.FullError("the disk is full")


# --- one request's failure ---------------------------------------------------------------------


def test_a_batch_without_failures_runs_once_and_without_savepoints(file: Opened) -> None:
    with file.statements() as seen:
        applied = file.store.apply(works(ensuring("a"), appending("s", "one"), ensuring("b")))
    assert applied.runs == 1
    assert not [sql for sql in seen if "SAVEPOINT" in sql]
    assert [sql for sql in seen if sql.startswith(("BEGIN", "COMMIT", "ROLLBACK"))] == [
        "BEGIN IMMEDIATE",
        "COMMIT",
    ]


def test_a_failure_before_any_change_needs_no_second_run(file: Opened) -> None:
    applied = file.store.apply(
        works(appending("s", "one"), appending("nobody", "x"), ensuring("a"))
    )
    assert (applied.runs, codes(applied.outcomes)) == (1, [None, "integrity", None])
    assert texts(file) == ["one"]


def test_a_failure_after_a_change_takes_only_itself_back(
    file: Opened, trick: Callable[[Handler], None]
) -> None:
    trick(fail_after_change)
    before = file.store.commits
    applied = file.store.apply(works(appending("s", "one"), TRICK, appending("s", "two 中文")))
    assert (applied.runs, codes(applied.outcomes)) == (2, [None, "internal", None])
    assert [result(each) for each in applied.outcomes if each.error is None] == [1, 2]
    assert applied.last_message_id == 2
    assert file.store.commits == before + 1
    assert file.value("SELECT count(*) FROM sessions") == 1
    assert texts(file) == ["one", "two 中文"]
    assert file.check().sound


def test_a_failure_after_something_was_only_staged_takes_it_back(
    file: Opened, trick: Callable[[Handler], None]
) -> None:
    def stage(batch: Batch, _request: Any) -> None:
        batch.count("s", 1, 1)
        raise Failure(Code.CONFLICT, "no")

    trick(stage)
    applied = file.store.apply(works(appending("s", "one"), TRICK))
    assert (applied.runs, codes(applied.outcomes)) == (2, [None, "conflict"])
    assert file.rows("SELECT message_count, tool_call_count FROM sessions") == [(1, 0)]


def test_events_of_a_request_that_failed_reach_nobody(
    file: Opened, trick: Callable[[Handler], None]
) -> None:
    def create_then_fail(batch: Batch, _request: Any) -> None:
        HANDLERS[SessionEnsure](batch, ensuring("gone"))
        raise Failure(Code.CONFLICT, "no")

    trick(create_then_fail)
    applied = file.store.apply(works(ensuring("a"), TRICK, ensuring("b")))
    assert [(event.kind, event.session_id) for event in applied.events] == [
        ("session_created", "a"),
        ("session_created", "b"),
    ]


def test_ids_given_in_a_run_that_was_rolled_back_reach_nobody(
    file: Opened, trick: Callable[[Handler], None]
) -> None:
    def append_then_fail(batch: Batch, _request: Any) -> None:
        HANDLERS[type(appending("s", "x"))](batch, appending("s", "gone 中文"))
        raise Failure(Code.CONFLICT, "no")

    trick(append_then_fail)
    applied = file.store.apply(works(appending("s", "one"), TRICK, appending("s", "two")))
    assert [result(each) for each in applied.outcomes if each.error is None] == [1, 2]
    applied = file.store.apply(works(appending("s", "three"), TRICK))
    assert applied.last_message_id == 3
    assert file.check().sound


def test_a_request_that_ends_the_transaction_is_left_out(
    file: Opened, trick: Callable[[Handler], None]
) -> None:
    trick(end_transaction)
    applied = file.store.apply(works(appending("s", "one"), TRICK, appending("s", "two")))
    assert (applied.runs, codes(applied.outcomes)) == (3, [None, "disk_full", None])
    assert applied.outcomes[1].error is not None
    assert applied.outcomes[1].error[2] == {"applied": False}
    assert texts(file) == ["one", "two"]


def test_two_that_end_the_transaction_refuse_everything(
    file: Opened, trick: Callable[[Handler], None]
) -> None:
    trick(end_transaction)
    outcomes = file.store.apply(works(appending("s", "one"), TRICK, TRICK)).outcomes
    assert codes(outcomes) == ["disk_full"] * 3
    assert {each.fate for each in outcomes} == {Fate.REFUSED}
    assert texts(file) == []
    assert not file.connection.in_transaction


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Failure(Code.NOT_FOUND, "no", {"x": 1}), ("not_found", "no", {"x": 1})),
        (Failure(Code.DISK_FULL, "no"), ("disk_full", "no", {"applied": False})),
        (apsw.ConstraintError("NOT NULL"), ("integrity", "NOT NULL", None)),
        (apsw.TooBigError("too big"), ("invalid_params", "too big", None)),
        (apsw.IOError("disk I/O error"), ("database", "disk I/O error", {"applied": False})),
        (OverflowError("int too big"), ("internal", "OverflowError: int too big", None)),
    ],
)  # fmt: skip
def test_what_an_error_is_called(
    file: Opened, trick: Callable[[Handler], None], error: Exception, expected: tuple[Any, ...]
) -> None:
    def fail(_batch: Batch, _request: Any) -> None:
        raise error

    trick(fail)
    (outcome,) = file.apply(TRICK)
    assert outcome.error == expected
    assert outcome.fate is (Fate.REFUSED if expected[2] == {"applied": False} else Fate.FAILED)


choices = st.sampled_from(["append", "append to nobody", "early", "late", "ends", "both"])


@settings(max_examples=40)
@given(st.lists(choices, max_size=8))
def test_any_mix_leaves_exactly_what_was_answered(mix: list[str]) -> None:
    """Two that end the transaction refuse all; else only those fail that fail."""
    if mix.count("ends") > 1:
        return
    handlers = {
        "early": _raising(Failure(Code.CONFLICT, "early")),
        "late": fail_after_change,
        "ends": end_transaction,
    }
    with _fresh() as file:
        requests: list[Request[Any]] = []
        for place, kind in enumerate(mix):
            if kind == "append":
                requests.append(appending("s", f"text {place}"))
            elif kind == "append to nobody":
                requests.append(appending("nobody", "x"))
            elif kind == "both":
                requests.append(
                    together(appending("s", f"first {place}"), appending("nobody", "second"))
                )
            else:
                requests.append(SessionReopen(session_id=kind))
        original = HANDLERS[SessionReopen]
        HANDLERS[SessionReopen] = lambda batch, request: handlers[request.session_id](
            batch, request
        )
        try:
            outcomes = file.apply(*requests)
        finally:
            HANDLERS[SessionReopen] = original
        expected = {
            "append": None, "append to nobody": "integrity", "both": "integrity",
            "early": "conflict", "late": "internal", "ends": "disk_full",
        }  # fmt: skip
        assert codes(outcomes) == [expected[kind] for kind in mix]
        kept = [f"text {place}" for place, kind in enumerate(mix) if kind == "append"]
        assert texts(file) == kept
        answered = [result(each) for each in outcomes if each.error is None]
        assert answered == [row[0] for row in file.rows("SELECT id FROM messages ORDER BY id")]
        assert file.check().sound


def _raising(error: Exception) -> Handler:
    def handler(_batch: Batch, _request: Any) -> None:
        raise error

    return handler


@contextmanager
def _fresh() -> Iterator[Opened]:
    """A new file for each example."""
    with TemporaryDirectory() as folder, opened(Path(folder) / "state.db") as made:
        made.append("s")
        yield made


# --- several writes as one ---------------------------------------------------------------------


def test_a_batch_of_writes_gives_one_result_per_item(file: Opened) -> None:
    [results] = file.results(
        together(ensuring("a"), appending("a", "one"), SessionSetTitle(session_id="a", title="t"))
    )
    assert results == [None, 1, True]


def test_its_later_items_see_its_earlier_ones_and_all_or_none_is_stored(file: Opened) -> None:
    before = file.value("SELECT count(*) FROM sessions")
    outcomes = file.apply(
        appending("s", "before"),
        together(ensuring("a"), appending("a", "one 中文"), appending("nobody", "two")),
        appending("s", "after"),
    )
    assert codes(outcomes) == [None, "integrity", None]
    assert outcomes[1].error == (
        "integrity",
        "item 2 (message.append): session 'nobody' does not exist",
        {"session_id": "nobody", "item": 2},
    )
    assert file.value("SELECT count(*) FROM sessions") == before
    assert texts(file) == ["before", "after"]
    assert file.check().sound


def test_a_failing_batch_of_writes_does_not_make_its_neighbours_run_again(file: Opened) -> None:
    applied = file.store.apply(
        works(appending("s", "one"), together(ensuring("a"), appending("nobody", "x")))
    )
    assert applied.runs == 1


def test_it_has_one_number_and_one_receipt(file: Opened) -> None:
    both = together(appending("s", "one"), appending("s", "two"))
    file.store.apply([numbered(1, both), numbered(2, appending("s", "three"))])
    (again,) = file.store.apply([numbered(1, both)]).outcomes
    assert (again.fate, result(again)) == (Fate.REPLAYED, [1, 2])
    assert texts(file) == ["one", "two", "three"]


@pytest.mark.parametrize("method", ["batch.apply", "session.get", "server.ping", "no.such"])
def test_only_writes_may_be_in_it(method: str) -> None:
    with pytest.raises(Failure, match="is not allowed here") as caught:
        decode_item(method, b"\x80")
    assert caught.value.code is Code.INVALID_PARAMS


def test_every_other_write_may_be_in_it() -> None:
    allowed = [each for each in REQUESTS.values() if each.KIND is Kind.WRITE and each.IN_BATCH]
    assert len(allowed) > 10
    for request in allowed:
        with pytest.raises(Failure, match="missing required field"):
            decode_item(request.METHOD, b"\x80")


def test_an_item_that_does_not_fit_is_named(file: Opened) -> None:
    arguments = msgspec.Raw(msgspec.msgpack.encode({"session_id": 5}))
    (outcome,) = file.apply(BatchApply(items=[Item("session.reopen", arguments)]))
    assert outcome.error is not None
    assert outcome.error[0] == "invalid_params"
    assert "item 0 (session.reopen)" in outcome.error[1]
    assert "session_id" in outcome.error[1]
    assert outcome.error[2] == {"item": 0}


def test_an_empty_batch_of_writes_is_nothing(file: Opened) -> None:
    assert file.results(BatchApply(items=[])) == [[]]


# --- deadlines and what could not be decoded ---------------------------------------------------


def test_a_request_whose_time_ran_out_is_failed_and_stays_so(file: Opened) -> None:
    late = numbered(1, appending("s", "late"), deadline=0.0)
    (outcome,) = file.store.apply([late]).outcomes
    assert code(outcome) == "timeout"
    assert statuses(file, 1) == ["failed"]
    (again,) = file.store.apply([numbered(1, appending("s", "late"))]).outcomes
    assert (again.fate, code(again)) == (Fate.REPLAYED, "timeout")
    assert texts(file) == []


def test_what_could_not_be_decoded_uses_its_number(file: Opened) -> None:
    unfit = numbered(1, ensuring("x"), failure=Failure(Code.INVALID_PARAMS, "no such field"))
    outcomes = file.store.apply([unfit, numbered(2, appending("s", "two"))]).outcomes
    assert codes(outcomes) == ["invalid_params", None]
    assert statuses(file, 1, 2) == ["failed", "applied"]
    assert file.value("SELECT count(*) FROM sessions") == 1


# --- exactly once ------------------------------------------------------------------------------


def test_a_resent_write_is_answered_and_not_applied_again(file: Opened) -> None:
    first = [numbered(seq, appending("s", f"text {seq}")) for seq in (1, 2, 3)]
    before = [result(each) for each in file.store.apply(first).outcomes]
    again = file.store.apply([*first, numbered(4, appending("s", "text 4"))]).outcomes
    assert [each.fate for each in again] == [Fate.REPLAYED] * 3 + [Fate.APPLIED]
    assert [result(each) for each in again[:3]] == before
    assert texts(file) == ["text 1", "text 2", "text 3", "text 4"]


def test_the_same_number_twice_in_one_batch_is_applied_once(file: Opened) -> None:
    work = numbered(1, appending("s", "one"))
    outcomes = file.store.apply([work, numbered(1, appending("s", "one"))]).outcomes
    assert [result(each) for each in outcomes] == [1, 1]
    assert texts(file) == ["one"]


def test_a_failure_is_answered_again_even_if_it_would_succeed_now(file: Opened) -> None:
    early = numbered(1, appending("a", "x"))
    assert codes(file.store.apply([early]).outcomes) == ["integrity"]
    file.append("a")
    (again,) = file.store.apply([early]).outcomes
    assert (again.fate, again.error) == (
        Fate.REPLAYED,
        ("integrity", "session 'a' does not exist", {"session_id": "a"}),
    )


def test_a_refusal_leaves_no_receipt_and_holds_up_its_successors(
    file: Opened, trick: Callable[[Handler], None]
) -> None:
    trick(_raising(Failure(Code.DATABASE, "not now")))
    batch = [
        numbered(1, appending("s", "one")),
        numbered(2, TRICK),
        numbered(3, appending("s", "three")),
        numbered(1, appending("s", "another's"), client_id=OTHER),
    ]
    outcomes = file.store.apply(batch).outcomes
    assert codes(outcomes) == [None, "database", "out_of_order", None]
    assert outcomes[2].error is not None
    assert outcomes[2].error[1:] == ("number 3 is not next, 2 is", {"applied": False})
    assert statuses(file, 1, 2, 3) == ["applied", "not_applied", "not_applied"]
    trick(lambda _batch, _request: None)
    assert codes(file.store.apply(batch[1:3]).outcomes) == [None, None]
    assert texts(file) == ["one", "another's", "three"]


def test_a_refused_write_that_was_given_up_is_passed(file: Opened) -> None:
    file.store.apply([numbered(1, appending("s", "one"))])
    outcomes = file.store.apply(
        [numbered(3, appending("s", "three"), floor=3), numbered(2, appending("s", "two"))]
    ).outcomes
    assert [each.fate for each in outcomes] == [Fate.APPLIED, Fate.DROPPED]
    assert texts(file) == ["one", "three"]
    assert statuses(file, 2, 3) == ["unknown", "applied"]


def test_another_request_under_a_used_number_is_a_conflict(file: Opened) -> None:
    file.store.apply([numbered(1, appending("s", "one"))])
    (outcome,) = file.store.apply([numbered(1, appending("s", "other"))]).outcomes
    assert outcome.error == (
        "conflict",
        "number 1 was already used for a different request",
        None,
    )
    assert texts(file) == ["one"]


def test_too_many_unconfirmed_answers_are_refused_until_some_are(
    file: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_rules, "MAX_UNDECIDED", 2)
    outcomes = file.store.apply([numbered(seq, ensuring(str(seq))) for seq in (1, 2, 3)]).outcomes
    assert codes(outcomes) == [None, None, "overloaded"]
    assert outcomes[2].error is not None
    assert outcomes[2].error[2] == {"applied": False}
    assert codes(file.store.apply([numbered(3, ensuring("3"), floor=2)]).outcomes) == [None]


def test_receipts_are_in_the_transaction_of_what_they_are_for(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def crash(point: str) -> None:
        if point == "before commit" and armed:
            raise Killed

    armed: list[bool] = []
    with opened(tmp_path / "state.db", crash_point=crash) as file:
        file.append("s")
        armed.append(True)
        with pytest.raises(Killed):
            file.store.apply([numbered(1, appending("s", "one"))])
        armed.clear()
        file.connection.execute("ROLLBACK")
        assert texts(file) == []
        assert statuses(file, 1) == ["unknown"]
        assert [
            each.fate for each in file.store.apply([numbered(1, appending("s", "one"))]).outcomes
        ] == [Fate.APPLIED]


def test_a_new_daemon_goes_on_where_the_old_one_was(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened(path) as file:
        file.append("s")
        file.store.apply([numbered(seq, appending("s", f"text {seq}")) for seq in (1, 2)])
        assert file.store.status(CLIENT, 2) == "applied"
    with opened(path) as file:
        assert file.store.status(CLIENT, 2) == "applied"
        resent = [numbered(seq, appending("s", f"text {seq}")) for seq in (1, 2, 3)]
        assert [each.fate for each in file.store.apply(resent).outcomes] == [
            Fate.REPLAYED, Fate.REPLAYED, Fate.APPLIED,
        ]  # fmt: skip
        assert texts(file) == ["text 1", "text 2", "text 3"]


def test_a_write_belongs_to_the_channel_its_connection_had_when_it_was_read(file: Opened) -> None:
    """A hello on the same connection may be read before the write is applied."""
    work = numbered(1, appending("s", "one"))
    work.peer.client_id = OTHER
    file.store.apply([work])
    assert file.store.status(CLIENT, 1) == "applied"
    assert file.store.status(OTHER, 1) == "unknown"


def test_outside_a_channel_nothing_is_remembered(file: Opened) -> None:
    for _ in range(2):
        assert codes(file.apply(appending("s", "again"))) == [None]
    assert texts(file) == ["again", "again"]
    assert file.value("SELECT count(*) FROM sessiond_clients") == 0


def test_what_is_not_a_write_has_no_handler() -> None:
    assert RequestStatus not in HANDLERS
    written = {request for request in REQUESTS.values() if request.KIND is Kind.WRITE}
    assert set(HANDLERS) == written - {BatchApply}


def test_creating_twice_in_a_batch_is_idempotent_in_every_run(
    file: Opened, trick: Callable[[Handler], None]
) -> None:
    trick(fail_after_change)
    made = SessionCreate(session_id="a", source="cli", started_at=1.0)
    applied = file.store.apply(works(made, made, TRICK, made))
    assert codes(applied.outcomes) == [None, None, "internal", None]
    assert [event.session_id for event in applied.events] == ["a"]
