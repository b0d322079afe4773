"""What token and cost accounting does, on both clients and by every way of reading."""

from typing import Any

import pytest

from sessiond_client import SessionDB
from tests.support.clients import new_id

COUNTERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


def session(db: SessionDB, session_id: str) -> dict[str, Any]:
    found = db.get_session(session_id)
    assert found is not None
    return found


def counters(db: SessionDB, session_id: str) -> list[int]:
    found = session(db, session_id)
    return [found[name] for name in COUNTERS]


def some_counts(*numbers: int) -> dict[str, int]:
    return dict(zip(COUNTERS, numbers, strict=True))


def test_counts_add_up(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli")
    db.update_token_counts(name, **some_counts(1, 2, 3, 4, 5))  # type: ignore[arg-type]
    db.update_token_counts(name, **some_counts(10, 20, 30, 40, 50))  # type: ignore[arg-type]
    assert counters(db, name) == [11, 22, 33, 44, 55]


def test_arguments_go_by_position_as_they_always_did(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli")
    db.update_token_counts(
        name, 1, 2, "model", 3, 4, 5, 0.5, 0.25, "status", "source", "v1",
        "provider", "url", "mode", False,
    )  # fmt: skip
    found = session(db, name)
    assert counters(db, name) == [1, 2, 3, 4, 5]
    assert (found["model"], found["estimated_cost_usd"], found["actual_cost_usd"]) == (
        "model", 0.5, 0.25,
    )  # fmt: skip
    assert (found["cost_status"], found["cost_source"], found["pricing_version"]) == (
        "status", "source", "v1",
    )  # fmt: skip
    assert (found["billing_provider"], found["billing_base_url"], found["billing_mode"]) == (
        "provider", "url", "mode",
    )  # fmt: skip


def test_absolute_counts_replace(db: SessionDB) -> None:
    name = new_id()
    db.update_token_counts(name, **some_counts(1, 2, 3, 4, 5))  # type: ignore[arg-type]
    db.update_token_counts(name, input_tokens=7, absolute=True)
    assert counters(db, name) == [7, 0, 0, 0, 0]


def test_estimates_add_up_from_nothing(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli")
    assert session(db, name)["estimated_cost_usd"] is None
    db.update_token_counts(name, estimated_cost_usd=0.25)
    db.update_token_counts(name, estimated_cost_usd=0.5)
    db.update_token_counts(name, input_tokens=1)
    assert session(db, name)["estimated_cost_usd"] == 0.75


def test_actual_costs_are_added_only_when_given(db: SessionDB) -> None:
    name = new_id()
    db.update_token_counts(name, input_tokens=1)
    assert session(db, name)["actual_cost_usd"] is None
    db.update_token_counts(name, actual_cost_usd=0.25)
    db.update_token_counts(name, input_tokens=1)
    db.update_token_counts(name, actual_cost_usd=0.5)
    assert session(db, name)["actual_cost_usd"] == 0.75


def test_absolute_costs_are_kept_when_none(db: SessionDB) -> None:
    name = new_id()
    db.update_token_counts(name, estimated_cost_usd=0.25, actual_cost_usd=0.5)
    db.update_token_counts(name, input_tokens=1, absolute=True)
    found = session(db, name)
    assert (found["estimated_cost_usd"], found["actual_cost_usd"]) == (0.25, 0.5)
    db.update_token_counts(name, estimated_cost_usd=0.0, actual_cost_usd=1.5, absolute=True)
    found = session(db, name)
    assert (found["estimated_cost_usd"], found["actual_cost_usd"]) == (0.0, 1.5)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_missing_session_is_made(db: SessionDB, absolute: bool) -> None:
    name = new_id()
    db.update_token_counts(name, input_tokens=3, model="m", absolute=absolute)
    found = session(db, name)
    assert (found["input_tokens"], found["source"], found["model"]) == (3, "unknown", "m")


@pytest.mark.parametrize("absolute", [False, True])
def test_what_overwrites_and_what_is_filled_in_once(db: SessionDB, absolute: bool) -> None:
    name = new_id()
    overwritten = ("cost_status", "cost_source", "pricing_version")
    filled = ("model", "billing_provider", "billing_base_url", "billing_mode")
    first: dict[str, Any] = dict.fromkeys((*overwritten, *filled), "first")
    second: dict[str, Any] = dict.fromkeys((*overwritten, *filled), "second")
    db.update_token_counts(name, **first, absolute=absolute)
    db.update_token_counts(name, **second, absolute=absolute)
    db.update_token_counts(name, input_tokens=1, absolute=absolute)
    found = session(db, name)
    assert [found[each] for each in overwritten] == ["second"] * 3
    assert [found[each] for each in filled] == ["first"] * 4


def test_set_token_counts_sets_and_accepts_absolute(db: SessionDB) -> None:
    name = new_id()
    db.set_token_counts(name, 5, 6, "model")
    db.set_token_counts(name, input_tokens=7, absolute=True)
    assert counters(db, name) == [7, 0, 0, 0, 0]
    db.set_token_counts(name, input_tokens=1, absolute=False)
    assert counters(db, name) == [8, 0, 0, 0, 0]
    assert session(db, name)["model"] == "model"


@pytest.mark.parametrize(
    ("argument", "bad"),
    [
        ("input_tokens", 2**63),
        ("reasoning_tokens", -(2**63) - 1),
        ("output_tokens", 1.5),
        ("estimated_cost_usd", float("nan")),
        ("actual_cost_usd", float("inf")),
        ("estimated_cost_usd", "much"),
    ],
)
@pytest.mark.parametrize("wait", [True, False])
def test_numbers_that_do_not_fit_are_refused_by_name(
    db: SessionDB, argument: str, bad: Any, wait: bool
) -> None:
    name = new_id()
    given: dict[str, Any] = {argument: bad}
    with pytest.raises(ValueError, match=argument):
        db.update_token_counts(name, **given, wait=wait)
    assert db.get_session(name) is None


# --- counts that nobody waits for ------------------------------------------------------------


def total_writes(db: SessionDB) -> int:
    writes: int = db.get_stats()["total_writes"]
    return writes


def test_increments_nobody_waits_for_are_read_by_the_same_client(db: SessionDB) -> None:
    name = new_id()
    for _ in range(50):
        db.update_token_counts(name, 1, 2, estimated_cost_usd=0.25, wait=False)
    found = session(db, name)
    assert (found["input_tokens"], found["output_tokens"]) == (50, 100)
    assert found["estimated_cost_usd"] == 12.5


def test_adjacent_increments_are_sent_as_one(db: SessionDB) -> None:
    name, other = new_id(), new_id()
    before = total_writes(db)
    for _ in range(50):
        db.update_token_counts(name, 1, wait=False)
        db.update_token_counts(other, 1, wait=False)
    db.flush()
    # A stall of more than 50 ms within the loop may split them.
    assert total_writes(db) - before < 20
    assert (session(db, name)["input_tokens"], session(db, other)["input_tokens"]) == (50, 50)


def test_another_write_of_the_session_comes_after_the_increments(db: SessionDB) -> None:
    name, child = new_id(), new_id()
    db.update_token_counts(name, 5, model="first", wait=False)
    db.create_session(child, "cli", parent_session_id=name)
    db.create_session(name, "telegram", model="second")
    found = session(db, name)
    assert (found["model"], found["source"], found["input_tokens"]) == ("first", "telegram", 5)
    db.update_token_counts(name, 1, wait=False)
    db.update_token_counts(name, 100, absolute=True, wait=False)
    db.update_token_counts(name, 7, wait=False)
    db.set_token_counts(name, 1000, wait=False)
    db.update_token_counts(name, 3, wait=False)
    db.update_token_counts(name, 4)
    assert session(db, name)["input_tokens"] == 1007


def test_a_deleted_session_is_made_again_by_a_later_increment_only(db: SessionDB) -> None:
    name = new_id()
    db.update_token_counts(name, 5, wait=False)
    assert db.delete_session(name) is True
    assert db.get_session(name) is None
    db.update_token_counts(name, 6, wait=False)
    assert session(db, name)["input_tokens"] == 6


def test_a_prune_comes_after_the_increments(db: SessionDB) -> None:
    name, source = new_id(), new_id("source")
    db.create_session(name, source)
    db.end_session(name, "done")
    db.update_token_counts(name, 5, wait=False)
    assert db.prune_sessions(-1, source) == 1
    db.flush()
    assert db.get_session(name) is None


def test_a_batch_comes_after_the_increments(db: SessionDB) -> None:
    name = new_id()
    db.update_token_counts(name, 5, wait=False)
    with db.batch() as batch:
        batch.set_token_counts(name, 1)
    assert session(db, name)["input_tokens"] == 1
