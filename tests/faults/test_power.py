"""Power cuts: what was answered is on the disk, whatever the cache had not written yet."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from sessiond_client import Integrity, OutcomeUnknown, SessionDB
from tests.support import power
from tests.support.faults import UNSYNCED_COMMIT, Faults, FaultyDaemon

MESSAGES = 60


@pytest.fixture
def durable(tmp_path: Path) -> Path:
    """What is on the disk."""
    made = tmp_path / "durable"
    made.mkdir()
    return made


@pytest.fixture
def db(faulty: FaultyDaemon) -> Iterator[SessionDB]:
    """A client that reads through the daemon, as the daemon sees the file."""
    with SessionDB(**faulty.arguments, reads="daemon") as made:
        yield made


def contents(db: SessionDB, session: str = "s") -> list[str]:
    """A session's texts in order."""
    return [each["content"] for each in db.get_messages(session)]


# --- at any moment -------------------------------------------------------------------------


@pytest.mark.parametrize("operations", [60, 90, 110, 131, 170, 223, 300])
def test_whatever_was_answered_survives(
    faulty: FaultyDaemon, durable: Path, db: SessionDB, operations: int
) -> None:
    """The power goes inside an operation on a file, and half of what was not synced is lost.

    The client outlives it: what it has not heard of is sent again, and all is there once.
    """
    faulty.options = ("--batch-max-requests", "8")
    faulty.launch_with(Faults(durable=str(durable), die_after=operations))
    reviver = faulty.revive(
        between=lambda: power.cut_power(faulty.database, durable, seed=operations)
    )
    db.create_session("s", "test")
    waiting: list[Future[int]] = []
    for number in range(MESSAGES):
        waiting.append(db.append_message_nowait("s", "user", f"message {number} {'x' * 300}"))
        if number % 7 == 0:
            waiting[-1].result()
    ids = [future.result() for future in waiting]
    if not faulty.statuses:
        os.kill(faulty.pid, signal.SIGKILL)  # it has had less to do than usual
    reviver.join()
    assert faulty.statuses == [-9]
    assert ids == sorted(set(ids))
    assert [text.split()[1] for text in contents(db)] == [str(n) for n in range(MESSAGES)]


def test_without_syncs_the_client_is_told_that_nobody_knows(
    faulty: FaultyDaemon, durable: Path, db: SessionDB
) -> None:
    """Durability normal: a power cut may take what was answered, but nothing comes twice."""
    faulty.options = ("--durability", "normal")
    faulty.start_with(Faults(durable=str(durable)))
    db.create_session("s", "test")
    for number in range(20):
        db.append_message("s", "user", f"message {number}")
    faulty.freeze()
    waiting = [db.append_message_nowait("s", "user", f"late {number}") for number in range(5)]
    faulty.kill()
    power.cut_power(faulty.database, durable)
    faulty.start_with(Faults(durable=str(durable)))
    # What was sent is of an unknown outcome; what was not meets a file without its session.
    assert {type(future.exception()) for future in waiting} <= {OutcomeUnknown, Integrity}
    db.create_session("s", "test")
    assert db.append_message("s", "user", "afterwards") > 0
    assert contents(db)[-1] == "afterwards"


# --- the first commit ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skip_commit", "skip_checkpoint"),
    [(False, False), (False, True), (True, True)],
    ids=["sound", "the first commit alone", "neither commit nor checkpoint"],
)
def test_what_recovery_found_is_synced_before_anybody_hears_of_it(
    faulty: FaultyDaemon, durable: Path, skip_commit: bool, skip_checkpoint: bool
) -> None:
    """Killed between a commit's write and its sync: the next daemon finds the commit in the cache.

    It tells a client that the write was applied; the power goes; the write must be there. A
    daemon that syncs nothing at its start shows that this test would notice.
    """
    with SessionDB(**faulty.arguments, reads="daemon", timeout=0.6) as db:
        faulty.start_with(Faults(durable=str(durable)))
        db.create_session("s", "test")
        faulty.stop()
        faulty.start_with(Faults(durable=str(durable), crash=UNSYNCED_COMMIT))
        with pytest.raises(OutcomeUnknown) as unknown:
            db.append_message("s", "user", "in the cache only")
    assert faulty.await_end() == -9
    assert unknown.value.data is not None
    asked = unknown.value.data["client_id"], unknown.value.data["seq"]
    with SessionDB(**faulty.arguments, reads="daemon") as db:
        faulty.start_with(
            Faults(
                durable=str(durable),
                skip_start_commit=skip_commit,
                skip_start_checkpoint=skip_checkpoint,
                no_care=True,
            )
        )
        assert db.request_status(*asked) == "applied"
        assert contents(db) == ["in the cache only"]
        faulty.kill()
        power.cut_power(faulty.database, durable)
        faulty.start_with(Faults(durable=str(durable)))
        kept = db.request_status(*asked) == "applied" and contents(db) == ["in the cache only"]
    assert kept is not skip_commit


# --- syncs that fail -----------------------------------------------------------------------


def test_a_sync_that_fails_ends_the_process_and_the_receipts_decide(
    faulty: FaultyDaemon, db: SessionDB
) -> None:
    faulty.options = ("--batch-max-requests", "5")
    faulty.start_with(Faults(fail_sync=6))
    reviver = faulty.revive()
    db.create_session("s", "test")
    waiting = [db.append_message_nowait("s", "user", f"message {n}") for n in range(MESSAGES)]
    ids = [future.result() for future in waiting]
    reviver.join()
    assert faulty.statuses == [74]
    assert ids == sorted(set(ids))
    assert contents(db) == [f"message {n}" for n in range(MESSAGES)]
    assert "the fate of a commit is unknown" in faulty.log


@pytest.mark.parametrize("broken", [False, True], ids=["sound", "without emptying the log"])
def test_pages_that_a_failed_sync_has_lost_do_not_take_later_commits_along(
    faulty: FaultyDaemon, durable: Path, db: SessionDB, broken: bool
) -> None:
    """After a failed sync the kernel counts the pages as clean: no later sync writes them.

    The next daemon has answered from them and added commits behind them. The power goes.
    """
    faulty.start_with(Faults(durable=str(durable), fail_sync=2))
    db.create_session("s", "test")
    waiting = db.append_message_nowait("s", "user", "its sync fails")
    assert faulty.await_end() == 74
    faulty.start_with(Faults(durable=str(durable), skip_start_checkpoint=broken, no_care=True))
    assert waiting.result() == 1
    assert db.append_message("s", "user", "after it") == 2
    faulty.kill()
    power.cut_power(faulty.database, durable)
    faulty.start_with(Faults(durable=str(durable)))
    kept = db.get_session("s") is not None and contents(db) == ["its sync fails", "after it"]
    assert kept is not broken


def test_a_write_that_fails_is_no_answer_either(faulty: FaultyDaemon, db: SessionDB) -> None:
    faulty.start_with(Faults(fail_write=12))
    reviver = faulty.revive()
    db.create_session("s", "test")
    waiting = [db.append_message_nowait("s", "user", f"message {n}") for n in range(MESSAGES)]
    ids = [future.result() for future in waiting]
    reviver.join()
    assert faulty.statuses == [74]
    assert ids == sorted(set(ids))
    assert contents(db) == [f"message {n}" for n in range(MESSAGES)]
