"""One writer: a process that works through its tasks by the public client and notes each call.

``python -m sessiond_client.torture.client ORDERS``, where the orders are JSON. SIGTERM lets it
finish what it has begun and leave.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import msgspec

from sessiond_client import OutcomeUnknown, SessiondError
from sessiond_client.torture.journal import (
    Answered,
    Began,
    Ended,
    Journal,
    Refused,
    Wrong,
    journal_path,
    read_life,
)
from sessiond_client.torture.looped import Blocking, Looped, Store
from sessiond_client.torture.work import Deed, Task, message_of, session_of, tasks

MOST_PENDING: Final = 300
READ_EVERY: Final = 25
PAUSE_AFTER_REFUSAL: Final = 0.02


class Orders(msgspec.Struct, frozen=True):
    """What a writer is told.

    ``timeout``: seconds that each of its calls may take. ``kind``: of client, ``blocking`` or
    ``asyncio``.
    """

    database: str
    socket: str
    folder: str
    client: int
    life: int
    seed: int
    timeout: float
    reads: str = "auto"
    kind: str = "blocking"


class Writer:
    """One life of one client."""

    def __init__(
        self, orders: Orders, db: Store, journal: Journal, stopped: Callable[[], bool]
    ) -> None:
        self._orders = orders
        self._db = db
        self._journal = journal
        self._session = session_of(orders.client, orders.life)
        self._calls = 0
        self._pending: list[Future[int]] = []
        self._lock = threading.Lock()
        self._merged: list[int] = []  # calls that were merged and not heard of since
        self._stored = 0  # messages that were answered
        self._offered = 0  # messages that were begun
        self._stopped = stopped

    def run(self) -> None:
        """Write until told to stop."""
        if not self._make_session():
            return
        self._send_again()
        for turn, task in enumerate(
            tasks(self._orders.seed, self._orders.client, self._orders.life)
        ):
            if self._stopped():
                break
            self._do(task)
            if turn % READ_EVERY == READ_EVERY - 1:
                self._look()
            time.sleep(task.pause)
        self._settle()

    def _make_session(self) -> bool:
        while not self._stopped():
            try:
                self._db.create_session(self._session, "torture")
            except SessiondError:
                time.sleep(PAUSE_AFTER_REFUSAL)
            else:
                return True
        return False

    def _send_again(self) -> None:
        """What the life before did not live to hear of, if it has a key."""
        orders = self._orders
        if not orders.life:
            return
        before = read_life(Path(orders.folder), orders.client, orders.life - 1)
        for began in before.open:
            if began.key is not None:
                self._append(began.session, began.first, began.key)

    # --- tasks -----------------------------------------------------------------------------

    def _do(self, task: Task) -> None:
        if task.deed is Deed.TOKENS:
            call = self._begin(tokens=task.tokens)
            self._finish(call, lambda: self._count(task.tokens))
        elif task.deed is Deed.MERGED:
            self._merge(task.tokens)
        elif task.deed is Deed.BATCH:
            self._batch(task)
        elif task.deed is Deed.SEVERAL:
            self._several(task)
        elif task.deed is Deed.STREAM:
            self._stream(task)
        else:
            key = f"k{task.first}" if task.deed is Deed.KEYED else None
            self._append(self._session, task.first, key)

    def _count(self, tokens: int) -> list[int]:
        self._db.update_token_counts(self._session, input_tokens=tokens, wait=True)
        return []

    def _merge(self, tokens: int) -> None:
        """A count that is sent later, with others; nobody hears of it before the next flush."""
        with self._lock:
            self._merged.append(self._begin(tokens=tokens))
        try:
            self._db.update_token_counts(self._session, input_tokens=tokens, wait=False)
        except SessiondError as error:
            self._merges_failed(error)

    def _merges_failed(self, error: BaseException) -> None:
        """An earlier merge's error may be raised by any call: whose it was is not known."""
        for call in self._take_merged():
            unsure = _refused(call, 0.0, error)
            self._journal.note(msgspec.structs.replace(unsure, certain=False))

    def _take_merged(self) -> list[int]:
        with self._lock:
            merged, self._merged = self._merged, []
        return merged

    def _batch(self, task: Task) -> None:
        """Messages one by one and a count, all or none."""
        numbers = range(task.first, task.first + task.count)
        messages = [message_of(self._orders.seed, self._session, number) for number in numbers]

        def fill(batch: Any) -> None:
            for message in messages:
                batch.append_message(self._session, **message)
            batch.update_token_counts(self._session, input_tokens=task.tokens)

        call = self._begin(self._session, task.first, task.count, tokens=task.tokens)
        self._finish(call, lambda: self._db.batch(fill)[: task.count])

    def _append(self, session: str, number: int, key: str | None) -> None:
        message = message_of(self._orders.seed, session, number)
        call = self._begin(session, number, 1, key=key)
        self._finish(
            call, lambda: [self._db.append_message(session, message_key=key, **message)], session
        )

    def _several(self, task: Task) -> None:
        numbers = range(task.first, task.first + task.count)
        messages = [message_of(self._orders.seed, self._session, number) for number in numbers]
        call = self._begin(self._session, task.first, task.count)
        self._finish(call, lambda: self._db.append_messages(self._session, messages))

    def _stream(self, task: Task) -> None:
        for number in range(task.first, task.first + task.count):
            message = message_of(self._orders.seed, self._session, number)
            call = self._begin(self._session, number, 1)
            began = time.monotonic()
            try:
                future = self._db.append_message_nowait(self._session, **message)
            except SessiondError as error:
                self._journal.note(_refused(call, time.monotonic() - began, error))
                self._merges_failed(error)
                continue
            future.add_done_callback(self._noting(call, began))
            self._pending.append(future)
            if self._stopped():
                break
        if len(self._pending) > MOST_PENDING:
            self._settle()

    def _noting(self, call: int, began: float) -> Callable[[Future[int]], None]:
        def note(future: Future[int]) -> None:
            seconds = time.monotonic() - began
            error = future.exception()
            if error is None:
                self._stored += 1
                self._journal.note(Answered(call, seconds, [future.result()]))
            else:
                self._journal.note(_refused(call, seconds, error))
                self._merges_failed(error)

        return note

    def _settle(self) -> None:
        """Wait until every future is done; each has a deadline of its own."""
        for future in self._pending:
            future.exception()
        self._pending.clear()
        try:
            self._db.flush()
        except SessiondError as error:
            self._merges_failed(error)
        for call in self._take_merged():
            self._journal.note(Answered(call, 0.0))

    # --- calls -----------------------------------------------------------------------------

    def _begin(
        self,
        session: str | None = None,
        first: int = 0,
        count: int = 0,
        *,
        tokens: int = 0,
        key: str | None = None,
    ) -> int:
        self._calls += 1
        began = Began(self._calls, time.time(), session or self._session, first, count, tokens, key)
        if began.session == self._session:
            self._offered += count
        self._journal.note(began)
        return self._calls

    def _finish(self, call: int, do: Callable[[], list[int]], session: str | None = None) -> None:
        began = time.monotonic()
        try:
            ids = do()
        except SessiondError as error:
            self._journal.note(_refused(call, time.monotonic() - began, error))
            self._merges_failed(error)
            time.sleep(PAUSE_AFTER_REFUSAL)
        else:
            if session in (None, self._session):
                self._stored += len(ids)
            self._journal.note(Answered(call, time.monotonic() - began, ids))

    def _look(self) -> None:
        """A client sees its own answered writes, whatever happens around it."""
        self._settle()
        stored = self._stored
        try:
            seen = self._db.message_count(self._session)
        except SessiondError as error:
            self._journal.note(Wrong(f"a read failed with {error.code}: {error}"))
            return
        if not stored <= seen <= self._offered:
            self._journal.note(
                Wrong(f"a read saw {seen} messages after {stored} were answered of {self._offered}")
            )


def _refused(call: int, seconds: float, error: BaseException) -> Refused:
    code = error.code if isinstance(error, SessiondError) else type(error).__name__
    certain = isinstance(error, SessiondError) and not isinstance(error, OutcomeUnknown)
    return Refused(call, seconds, str(code), str(error), certain)


def work(orders: Orders) -> None:
    """Carry out the orders."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: told.set())
    journal = Journal(journal_path(Path(orders.folder), orders.client, orders.life))
    options: dict[str, Any] = {"reads": orders.reads}
    make: Any = Looped if orders.kind == "asyncio" else Blocking
    with make(
        orders.database,
        socket=orders.socket,
        autostart=False,
        timeout=orders.timeout,
        **options,
    ) as db:
        Writer(orders, db, journal, told.is_set).run()
    journal.note(Ended())
    journal.close()


if __name__ == "__main__":
    work(msgspec.json.decode(sys.argv[1], type=Orders))
