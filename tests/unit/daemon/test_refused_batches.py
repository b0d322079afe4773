"""A batch that cannot be stored: what was decided before is answered, nothing else is decided."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sessiond.sqlite.store import Store
from sessiond.work import Fate, Outcome, Work
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.receipts import digest
from sessiond_protocol.requests.server import ServerHello
from tests.unit.daemon.stores import Opened, appending, foreign, opened

CLIENT = bytes(16)


class Peer:
    """A connection that said hello."""

    closed = False
    client_id: bytes | None = CLIENT


def numbered(seq: int, text: str, *, failure: Failure | None = None) -> Work:
    """An append with a number; all before it are answered but not confirmed."""
    request = appending("a", text)
    work = Work(Peer(), seq, request, 0.0, float("inf"), 100)
    work.seq, work.floor, work.failure = seq, 1, failure
    work.digest = digest(request.METHOD, text.encode())
    return work


def decoded(outcome: Outcome) -> Any:
    """A result, or the error's code."""
    if outcome.error is not None:
        return outcome.error[0]
    return msgspec.msgpack.decode(outcome.result or b"")


def last(store: Store) -> int:
    """The highest number that was decided."""
    return store.greet(ServerHello(protocol=1, client="test", client_id=CLIENT)).last


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    """A store with one session, and numbers 1 to 3 decided."""
    with opened(tmp_path / "state.db") as made:
        made.append("a")
        made.store.apply([numbered(seq, f"text {seq}") for seq in (1, 2, 3)])
        yield made


@pytest.fixture
def full(file: Opened) -> Opened:
    """The same on a full disk."""
    file.rows(f"PRAGMA max_page_count={file.value('PRAGMA page_count')}")
    return file


def test_what_was_applied_is_answered_although_the_disk_is_full(full: Opened) -> None:
    resent = [numbered(seq, f"text {seq}") for seq in (2, 3)]
    outcomes = full.store.apply([*resent, numbered(4, "new " * 20_000)]).outcomes
    assert [decoded(each) for each in outcomes] == [2, 3, "disk_full"]
    assert [each.fate for each in outcomes] == [Fate.REPLAYED, Fate.REPLAYED, Fate.REFUSED]
    assert last(full.store) == 3


def test_a_new_daemon_on_a_full_disk_answers_from_the_file(file: Opened) -> None:
    again = Store(file.connection, lock_timeout=0.0)
    file.rows(f"PRAGMA max_page_count={file.value('PRAGMA page_count')}")
    outcomes = again.apply([numbered(3, "text 3"), numbered(4, "new " * 20_000)]).outcomes
    assert [decoded(each) for each in outcomes] == [3, "disk_full"]


def test_a_reused_number_is_a_conflict_and_one_below_the_floor_is_dropped(full: Opened) -> None:
    below, above = numbered(1, "text 1"), numbered(4, "new " * 20_000)
    below.floor = above.floor = 2
    outcomes = full.store.apply([below, numbered(2, "another text"), above]).outcomes
    assert outcomes[0].fate is Fate.DROPPED
    assert [decoded(each) for each in outcomes[1:]] == ["conflict", "disk_full"]


def test_a_request_that_does_not_fit_keeps_its_number(file: Opened) -> None:
    unfit = numbered(4, "", failure=Failure(Code.INVALID_PARAMS, "no"))
    with foreign(file.path) as other:
        other.execute("BEGIN IMMEDIATE")
        outcomes = file.store.apply([unfit, numbered(5, "new"), numbered(2, "text 2")]).outcomes
        other.execute("ROLLBACK")
    assert [decoded(each) for each in outcomes] == ["database", "database", 2]
    assert outcomes[0].error is not None
    assert outcomes[0].error[2] == {"applied": False}
    assert last(file.store) == 3
    outcomes = file.store.apply([unfit, numbered(5, "new")]).outcomes
    assert [decoded(each) for each in outcomes] == ["invalid_params", 4]
