"""Applying a batch: one transaction, each request alone.

The fast way runs without savepoints. If a request fails after it changed something, or an error
ended the whole transaction, the batch is rolled back and run again with one savepoint per
request, so that only the culprit fails; a request that ended even that transaction is left out
of a third run.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import msgspec

from sessiond.sqlite.batch import Batch
from sessiond.sqlite.damage import damage_of
from sessiond.sqlite.handlers import HANDLERS
from sessiond.sqlite.handlers.messages import append_all
from sessiond.sqlite.insertion import NotInserted
from sessiond.work import Appended, Burst, Entry, Fate, Outcome, Work, refusal
from sessiond_protocol.channel import (
    MAX_ANSWER_BYTES,
    MAX_UNDECIDED,
    ChannelRun,
    ServerChannel,
    Verdict,
    decides,
)
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.receipts import IdReceipts, Receipt
from sessiond_protocol.requests import REQUESTS, Kind
from sessiond_protocol.requests.message import MessageAppend, MessageAppendMany
from sessiond_protocol.requests.server import BatchApply

_encode = msgspec.msgpack.Encoder().encode
_NIL = msgspec.Raw(_encode(None))

# They have the rows that are staged inserted where they must.
_STAGING: Final = (MessageAppend, MessageAppendMany)


class RunAgain(Exception):
    """This run left a mark that only a rollback takes back."""


class EndedTransaction(Exception):
    """A request ended the whole transaction; ``index`` is its place in the batch."""

    def __init__(self, index: int, outcome: Outcome) -> None:
        super().__init__(index)
        self.index = index
        self.outcome = outcome


Load = Callable[[bytes], ServerChannel]


class Run:
    """One run over the requests of a batch; see the module's text."""

    def __init__(
        self, batch: Batch, load: Load, *, careful: bool, left_out: dict[int, Outcome]
    ) -> None:
        self._batch = batch
        self._load = load
        self._careful = careful
        self._left_out = left_out

    def apply(self, works: Sequence[Entry]) -> tuple[list[Entry], list[Outcome]]:
        """The requests, in order, and an outcome for each; bursts may have been taken apart."""
        decided: list[Entry] = []
        outcomes: list[Outcome] = []
        index = 0
        try:
            for work in works:
                if isinstance(work, Burst):
                    appended = self._together(work)
                    if appended is None:
                        single = work.works()
                        outcomes += [self._one(*each) for each in enumerate(single, index)]
                        decided += single
                    else:
                        outcomes.append(appended)
                        decided.append(work)
                else:
                    outcomes.append(self._one(index, work))
                    decided.append(work)
                index += work.count
            self._batch.flush_rows()
        except NotInserted as error:
            raise RunAgain from error
        return decided, outcomes

    def _together(self, burst: Burst) -> Appended | None:
        """Apply a burst as one; None: its appends must be looked at one by one."""
        if self._careful or self._left_out or time.monotonic() > burst.deadline:
            return None
        run = self._channel(burst.channel)
        floors = burst.floors
        if not run.takes(burst.seq, burst.count, min(floors), max(floors)):
            return None
        try:
            first_id = append_all(self._batch, burst.requests)
        except Exception as error:
            raise RunAgain from error
        if first_id is None:
            return None
        run.decide_all(IdReceipts(burst.seq, first_id, burst.digests), max(floors))
        return Appended(first_id)

    def _channel(self, client_id: bytes) -> ChannelRun:
        run = self._batch.runs.get(client_id)
        if run is None:
            run = self._batch.runs[client_id] = ChannelRun(self._load(client_id))
        return run

    def _one(self, index: int, work: Work) -> Outcome:
        client_id, seq = work.channel, work.seq
        if client_id is None or seq is None:
            return self._decide(index, work)
        run = self._channel(client_id)
        verdict = run.judge(seq, work.floor, work.digest)
        if verdict is not Verdict.DECIDE:
            return _without_deciding(verdict, run, work)
        outcome = self._decide(index, work)
        error = outcome.error
        if error is None or decides(error[0]):
            run.decide(Receipt(seq, work.digest, error, outcome.result or _NIL))
        return outcome

    def _decide(self, index: int, work: Work) -> Outcome:
        if self._left_out and index in self._left_out:
            return self._left_out[index]
        return self._attempt(index, work)

    def _attempt(self, index: int, work: Work) -> Outcome:
        if work.failure is not None:
            return Outcome(Fate.FAILED, error=work.failure.wire())
        if time.monotonic() > work.deadline:
            return _failed(Code.TIMEOUT, "the request's time ran out before it was applied")
        batch, request = self._batch, work.request
        if type(request) not in _STAGING:
            batch.flush_rows()
        if self._careful or type(request) is BatchApply:
            return self._in_savepoint(index, work)
        mark = batch.mark
        try:
            result = HANDLERS[type(request)](batch, request)
            return Outcome(Fate.APPLIED, msgspec.Raw(_encode(result)))
        except NotInserted:
            raise
        except Exception as error:
            outcome = _outcome_of(error)
            if not batch.connection.in_transaction or batch.mark != mark:
                raise RunAgain from error
            return outcome

    def _in_savepoint(self, index: int, work: Work) -> Outcome:
        batch = self._batch
        staged, events, last_id = batch.staged.copy(), len(batch.events), batch.last_message_id
        insertion, batch.insertion = batch.insertion, None
        batch.execute("SAVEPOINT request")
        try:
            result = _apply(batch, work)
            batch.execute("RELEASE request")
            return Outcome(Fate.APPLIED, msgspec.Raw(_encode(result)))
        except Exception as error:
            outcome = _outcome_of(error)
            if not batch.connection.in_transaction:
                raise EndedTransaction(index, outcome) from error
            batch.execute("ROLLBACK TO request")
            batch.execute("RELEASE request")
            batch.staged = staged
            batch.changes += 1
            batch.last_message_id = last_id
            del batch.events[events:]
            return outcome
        finally:
            batch.insertion = insertion
            if insertion is not None:
                insertion.forget()


def refuse_batch(works: Sequence[Work], load: Load, code: Code, message: str) -> list[Outcome]:
    """Outcomes of a batch of which nothing can be stored, for a reason of the daemon.

    What was decided before is answered from its receipt all the same: told that it was not
    applied, its caller would be told an untruth.
    """
    runs: dict[bytes, ChannelRun] = {}
    return [_refuse(work, runs, load, code, message) for work in works]


def _refuse(
    work: Work, runs: dict[bytes, ChannelRun], load: Load, code: Code, message: str
) -> Outcome:
    client_id = work.channel
    if client_id is None or work.seq is None:
        # Outside a channel a request that does not fit uses up no number.
        return (
            Outcome(Fate.FAILED, error=work.failure.wire())
            if work.failure
            else refusal(code, message)
        )
    run = runs.get(client_id)
    if run is None:
        run = runs[client_id] = ChannelRun(load(client_id))
    verdict = run.judge(work.seq, work.floor, work.digest)
    if verdict in (Verdict.ANSWER, Verdict.DROP, Verdict.REUSED):
        return _without_deciding(verdict, run, work)
    return refusal(code, message)


def _apply(batch: Batch, work: Work) -> Any:
    if not isinstance(work.request, BatchApply):
        return HANDLERS[type(work.request)](batch, work.request)
    results = []
    for position, item in enumerate(work.request.items):
        try:
            request = decode_item(item.method, bytes(item.arguments))
            results.append(HANDLERS[type(request)](batch, request))
        except Failure as failure:
            data = {**(failure.data or {}), "item": position}
            raise Failure(
                failure.code, f"item {position} ({item.method}): {failure.message}", data
            ) from failure
    return results


def decode_item(method: str, arguments: bytes) -> Any:
    """One write of a ``batch.apply``; raises :class:`Failure` with ``invalid_params``."""
    request = REQUESTS.get(method)
    if request is None or request.KIND is not Kind.WRITE or not request.IN_BATCH:
        alone = sorted(name for name, each in REQUESTS.items() if not each.IN_BATCH)
        allowed = f"any write except {' and '.join(alone)}"
        raise Failure(Code.INVALID_PARAMS, f"method {method!r} is not allowed here, {allowed} is")
    try:
        return msgspec.msgpack.decode(arguments, type=request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure(Code.INVALID_PARAMS, str(error)) from error


def _without_deciding(verdict: Verdict, run: ChannelRun, work: Work) -> Outcome:
    assert work.seq is not None
    if verdict is Verdict.ANSWER:
        receipt = run.receipt(work.seq)
        assert receipt is not None
        return Outcome(Fate.REPLAYED, receipt.result, receipt.error)
    if verdict is Verdict.DROP:
        return Outcome(Fate.DROPPED)
    if verdict is Verdict.REUSED:
        return _failed(Code.CONFLICT, f"number {work.seq} was already used for a different request")
    if verdict is Verdict.FULL:
        return refusal(
            Code.OVERLOADED,
            f"too many answers are unconfirmed from number {run.floor} on: at most"
            f" {MAX_UNDECIDED} or {MAX_ANSWER_BYTES} bytes, confirm them by a higher floor",
        )
    return refusal(Code.OUT_OF_ORDER, f"number {work.seq} is not next, {run.next} is")


def _failed(code: Code, message: str, data: dict[str, Any] | None = None) -> Outcome:
    return Outcome(Fate.FAILED, error=(code.value, message, data))


def _outcome_of(error: Exception) -> Outcome:
    """What a request is told that met this error. Damage is raised, not told."""
    damage = damage_of(error)
    if damage is not None:
        raise damage from error
    if isinstance(error, Failure):
        if error.code in (Code.DISK_FULL, Code.DATABASE):
            return refusal(error.code, error.message, **(error.data or {}))
        return _failed(error.code, error.message, error.data)
    if isinstance(error, apsw.ConstraintError):
        return _failed(Code.INTEGRITY, str(error))
    if isinstance(error, apsw.TooBigError):
        return _failed(Code.INVALID_PARAMS, str(error))
    if isinstance(error, apsw.FullError):
        return refusal(Code.DISK_FULL, "the disk is full; nothing of this request was stored")
    if isinstance(error, apsw.Error):
        return refusal(Code.DATABASE, str(error))
    return _failed(Code.INTERNAL, f"{type(error).__name__}: {error}")
