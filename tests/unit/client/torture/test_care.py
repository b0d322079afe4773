"""Care under torture: what a backup must hold, and which failures are excused."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from sessiond_client.torture.care import Caring, Orders, Outcome
from sessiond_client.torture.journal import Answered, Began, Journal, Life, journal_path
from sessiond_client.torture.plan import Kind
from tests.unit.client.torture.test_verdict import SEED, SESSION, database, life

__all__ = ["database", "life"]


class Done(Caring):
    """The daemon's part is played: the backup is the database, and ``meanwhile`` goes on."""

    def __init__(self, database: Path, outcome: Outcome) -> None:
        folder = database.parent
        super().__init__(database, folder / "sock", folder, SEED, 1.0, lambda: [1])
        self.database = database
        self.outcome = outcome
        self.meanwhile: list[Began | Answered] = []

    async def _ordered(self, orders: Orders) -> Outcome:
        if orders.kind is Kind.BACKUP:
            shutil.copy(self.database, orders.path)
        note(self.database.parent, *self.meanwhile)
        return self.outcome

    def violations(self, kind: Kind, **options: Any) -> list[str]:
        return asyncio.run(self.do(kind, **options))


def note(folder: Path, *events: Began | Answered) -> None:
    journal = Journal(journal_path(folder, 0, 0))
    journal.note(*events)
    journal.close()


@pytest.fixture
def caring(database: Path, life: Life) -> Done:
    """The calls of a life are in its journal, and all that was answered is in the database."""
    note(database.parent, *life.began.values(), *life.answered.values())
    return Done(database, Outcome(result={}))


def test_a_backup_holds_what_was_answered_before_and_is_gone_then(caring: Done) -> None:
    # Begun and answered while it was taken: it may hold this or not.
    caring.meanwhile = [Began(20, 0.0, SESSION, first=15, count=1), Answered(20, 0.1, [130])]
    assert caring.violations(Kind.BACKUP) == []
    assert caring.done == {Kind.BACKUP: 1}
    assert not list(caring.database.parent.glob("backup*"))


def test_a_backup_without_what_was_answered_before_is_kept_and_named(caring: Done) -> None:
    note(
        caring.database.parent, Began(20, 0.0, SESSION, first=15, count=1), Answered(20, 0.1, [130])
    )
    (wrong,) = caring.violations(Kind.BACKUP)
    assert wrong == "backup taken: c0-0, message 15: answered as [130], stored as []"
    assert (caring.database.parent / "backup-1.db").exists()


def test_a_backup_that_was_cut_short_under_its_name_is_whole(caring: Done) -> None:
    caring.outcome = Outcome(code="shutting_down", message="the daemon ended")
    assert caring.violations(Kind.BACKUP) == []
    assert not list(caring.database.parent.glob("backup*"))
    caring.database.write_bytes(caring.database.read_bytes()[:-8192])
    assert "malformed" in str(caring.violations(Kind.BACKUP))


@pytest.mark.parametrize(
    ("code", "message", "excused"),
    [
        ("shutting_down", "the daemon ended", True),
        ("disk_full", "no room", True),
        ("database", "another program holds the lock", True),
        ("database", "the copy is damaged: page 3", False),
        ("database", "the copy is not what was copied", False),
        ("conflict", "a check job runs already", False),
        ("internal", "KeyError", False),
    ],
)
def test_only_what_disturbs_the_daemon_excuses_a_failure(
    caring: Done, code: str, message: str, excused: bool
) -> None:
    caring.outcome = Outcome(code=code, message=message)
    named = [f"check run: failed with {code}: {message}"]
    assert caring.violations(Kind.CHECK) == ([] if excused else named)
    assert caring.violations(Kind.CHECK, calm=True) == named
    assert not caring.done


def test_what_a_check_finds_is_named(caring: Done) -> None:
    findings = [{"kind": "counter", "detail": "session s"}]
    caring.outcome = Outcome(result={"sound": False, "findings": findings})
    assert caring.violations(Kind.CHECK) == ["check run: counter: session s"]
    caring.outcome = Outcome(result={"sound": True, "findings": []})
    assert caring.violations(Kind.CHECK) == []
