"""The writer: the one thread that touches the write connection.

Everything reaches it through its inbox, everything leaves it as an outcome. It wakes the event
loop once per batch, not once per answer.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from sessiond.batching import BatchRule
from sessiond.database import Applied, Database, UnsafeFile
from sessiond.inbox import Inbox
from sessiond.stats import WriterStats
from sessiond.thread_names import show_name
from sessiond.work import Appended, Burst, Entry, Fate, Work
from sessiond_protocol import wire
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests import Kind
from sessiond_protocol.requests.server import RequestStatus, ServerHello

log = logging.getLogger("sessiond.writer")

# Without work for so long the writer has time for what was put off.
_QUIET_SECONDS: Final = 0.05

Delivery = tuple[Any, bytes, list[Entry]]  # a connection, its answers' bytes, what they answer
Deliver = Callable[[list[Delivery]], None]
Welcomer = Callable[[Work, Any], Any]


class Writer:
    """Takes batches from the inbox, has them applied, hands the answers out.

    ``deliver`` gets, once per batch, the bytes of every connection's answers. ``welcome`` makes
    hello's result from a :class:`~sessiond.database.Greeting`. ``committed`` is told what each
    batch changed, before its answers go out. ``alarm`` ends the process.
    """

    def __init__(
        self,
        inbox: Inbox,
        database: Database,
        rule: BatchRule,
        stats: WriterStats,
        *,
        deliver: Deliver,
        welcome: Welcomer,
        committed: Callable[[Applied], None],
        alarm: Callable[[UnsafeFile], None],
    ) -> None:
        self._inbox = inbox
        self._database = database
        self._rule = rule
        self._stats = stats
        self._deliver = deliver
        self._welcome = welcome
        self._committed = committed
        self._alarm = alarm
        self._more_care = self._just_served = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end; False if it is still at work."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        show_name()
        while True:
            try:
                if not self.turn():
                    break
            except UnsafeFile as unsafe:
                self._alarm(unsafe)
                return
            except BaseException:
                log.exception("the writer met an error of its own and goes on")

    def turn(self, patience: float | None = 1.0) -> bool:
        """One step: wait up to ``patience`` seconds for work, do it. False when all is done."""
        if self._more_care:
            patience = 0.0
        elif self._just_served:
            patience = _QUIET_SECONDS if patience is None else min(patience, _QUIET_SECONDS)
        open_still = self._inbox.wait(patience)
        for errand in self._inbox.take_errands():
            self._run_errand(errand)
        works = self._gather()
        self._just_served = bool(works)
        if works:
            self._serve(works)
        self._more_care = False  # also if the care fails: failing over and over must not spin
        if open_still:
            self._more_care = self._database.care(idle=not works and not self._inbox.requests)
        return open_still

    def _run_errand(self, errand: Callable[[], None]) -> None:
        try:
            errand()
        except UnsafeFile:
            raise
        except Exception:
            log.exception("an errand failed")

    def _gather(self) -> list[Entry]:
        inbox, rule = self._inbox, self._rule
        if not inbox.requests:
            return []
        expected = rule.expected(inbox.requests, inbox.writers)
        if expected > inbox.writers:
            inbox.wait_for_more(expected, rule.limits.max_requests, rule.limits.max_delay)
        return inbox.take(rule.limits.max_requests, rule.limits.max_bytes)

    def _serve(self, works: list[Entry]) -> None:
        taken = time.monotonic()
        writes = [work for work in works if work.kind is Kind.WRITE]
        answers = _Answers()
        if writes:
            applied = self._apply(writes)
            answers.decided(applied)
            self._rule.closed(len(answers.by_peer))
            self._note(applied, taken)
        for work in works:
            if isinstance(work, Work) and work.kind is not Kind.WRITE:
                answers.add(work, self._answer_other(work))
        self._deliver(answers.deliveries())

    def _note(self, applied: Applied, taken: float) -> None:
        """Tell watchers and statistics; whatever happens there, the answers must go out."""
        try:
            self._committed(applied)
            self._stats.batch(applied, taken, time.monotonic())
        except Exception:
            log.exception("what a batch changed could not be passed on")

    def _apply(self, writes: Sequence[Entry]) -> Applied:
        try:
            return self._database.apply(writes)
        except UnsafeFile:
            raise
        except BaseException as error:
            # The database promises to raise nothing else; a bug must not leave callers hanging,
            # and what became of the transaction is not known here.
            log.exception("applying a batch failed in a way that nobody foresaw")
            raise UnsafeFile(f"the fate of a batch is unknown: {error!r}") from error

    def _answer_other(self, work: Work) -> wire.Answer:
        try:
            return (wire.RESPONSE, work.msgid, None, msgspec.Raw(wire.pack(self._ask(work))))
        except UnsafeFile:
            raise
        except Failure as failure:
            return (wire.RESPONSE, work.msgid, failure.wire(), None)
        except Exception as error:
            log.exception("%s failed in a way that nobody foresaw", work.request.METHOD)
            unforeseen = Failure(Code.INTERNAL, f"{type(error).__name__}: {error}")
            return (wire.RESPONSE, work.msgid, unforeseen.wire(), None)

    def _ask(self, work: Work) -> Any:
        request = work.request
        if isinstance(request, ServerHello):
            return self._welcome(work, self._database.greet(request))
        if isinstance(request, RequestStatus):
            return self._database.status(request.client_id, request.seq)
        return None


class _Answers:
    """The answers of one batch, joined per connection."""

    def __init__(self) -> None:
        self.by_peer: dict[Any, tuple[list[wire.Answer], list[Entry]]] = {}

    def decided(self, applied: Applied) -> None:
        """Add what a batch decided. What nobody waits for is not answered, only accounted."""
        for work, outcome in zip(applied.works, applied.outcomes, strict=True):
            answers, works = self._of(work.peer)
            works.append(work)
            if isinstance(outcome, Appended):
                assert isinstance(work, Burst)
                answers += outcome.answers(work.msgids)
            elif outcome.fate is not Fate.DROPPED:
                assert isinstance(work, Work)
                answers.append((wire.RESPONSE, work.msgid, outcome.error, outcome.result))

    def add(self, work: Work, answer: wire.Answer) -> None:
        """Add one answer."""
        answers, works = self._of(work.peer)
        answers.append(answer)
        works.append(work)

    def _of(self, peer: Any) -> tuple[list[wire.Answer], list[Entry]]:
        entry = self.by_peer.get(peer)
        if entry is None:
            entry = self.by_peer[peer] = ([], [])
        return entry

    def deliveries(self) -> list[Delivery]:
        """Each connection's answers as bytes, in the order of its requests."""
        return [
            (peer, wire.responses(answers), works)
            for peer, (answers, works) in self.by_peer.items()
        ]
