"""``sessionctl`` rename, end, delete and prune, with a real daemon."""

import os

import pytest

from tests.support.sessionctl import (
    FIRST,
    JAPANESE,
    UNTITLED,
    Ctl,
    ctl,
    ids,
    own,
)
from tests.support.terminal import INTERRUPT

__all__ = ["ctl", "own"]


def test_rename_and_clear(own: Ctl) -> None:
    assert own.out("rename", "20250103", " A  new title ") == f"{UNTITLED} is now 'A new title'\n"
    assert own.json("show", "A new title")["id"] == UNTITLED
    taken = own.complaint("rename", "20250103", "Docker for beginners", status=os.EX_DATAERR)
    assert FIRST in taken
    assert own.out("rename", "A new title", "--clear") == f"{UNTITLED} has no title now\n"
    own.complaint("rename", "A new title", "x", status=os.EX_NOINPUT)


def test_end_and_reopen(own: Ctl) -> None:
    assert own.out("end", UNTITLED, "--reason", "enough").endswith(", enough\n")
    assert own.out("end", UNTITLED, "--reason", "again").endswith(", enough\n")
    assert own.json("show", UNTITLED)["end_reason"] == "enough"
    own.out("end", UNTITLED, "--reopen")
    assert own.json("show", UNTITLED)["ended_at"] is None


def test_delete_refuses_where_nobody_can_answer(own: Ctl) -> None:
    said = own.run("delete", "20250101", status=os.EX_USAGE).stderr
    assert "--yes" in said
    assert len(ids(own)) == 3


@pytest.mark.parametrize(
    ("answer", "left", "status"),
    [("y\n", [UNTITLED, JAPANESE], 0), ("n\n", [UNTITLED, JAPANESE, FIRST], 1)],
)
def test_delete_asks_at_a_terminal(own: Ctl, answer: str, left: list[str], status: int) -> None:
    seen = own.at_terminal("delete", "Docker for beginners", answer=answer)
    assert f"{FIRST} 'Docker for beginners': 3 messages" in seen.text
    assert "Delete 1 session for ever? [y/N]" in seen.text
    assert seen.status == status
    assert ids(own) == left


@pytest.mark.parametrize("key", [INTERRUPT, "\x04"])
def test_a_question_that_is_interrupted_ends_its_line(own: Ctl, key: str) -> None:
    seen = own.steered("delete", FIRST, then=[("[y/N]", key)])
    assert seen.status == 130
    assert seen.lines[-1] == "sessionctl: interrupted"
    assert FIRST in ids(own)


def test_delete_looks_all_up_before_the_first_goes(own: Ctl) -> None:
    own.run("delete", "--yes", FIRST, "nonsense", status=os.EX_NOINPUT)
    assert len(ids(own)) == 3
    done = own.run("delete", "--yes", FIRST, JAPANESE, FIRST)
    assert done.stdout == f"{FIRST} is deleted\n{JAPANESE} is deleted\n"
    assert ids(own) == [UNTITLED]


def test_prune(own: Ctl) -> None:
    assert own.out("prune", "--dry-run") == "0 sessions would be deleted\n"
    assert own.out("prune", "--older-than", "0", "--dry-run") == "1 session would be deleted\n"
    assert own.out("prune", "--older-than", "0", "-s", "cli", "--yes") == "0 sessions deleted\n"
    own.run("prune", "--older-than", "0", status=os.EX_USAGE)
    seen = own.at_terminal("prune", "--older-than", "0", answer="n\n")
    assert "Delete 1 ended session from before " in seen.text
    assert len(ids(own)) == 3
    assert own.json("prune", "--older-than", "0", "--yes")["deleted"] == 1
    assert ids(own) == [UNTITLED, JAPANESE]
