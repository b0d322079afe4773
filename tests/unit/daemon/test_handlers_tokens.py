"""Token and cost accounting."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond_protocol.requests.feed import Event
from sessiond_protocol.requests.session import SessionCreate, SessionUpdateTokens
from tests.unit.daemon.stores import Opened, opened, works

COUNTERS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip
COSTS = ("estimated_cost_usd", "actual_cost_usd")
OVERWRITTEN = ("cost_status", "cost_source", "pricing_version")
FILLED = ("billing_provider", "billing_base_url", "billing_mode", "model")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        made.results(SessionCreate(session_id="s", source="cli", started_at=1.0))
        yield made


def update(absolute: bool = False, session_id: str = "s", **counts: Any) -> SessionUpdateTokens:
    return SessionUpdateTokens(session_id=session_id, at=77.0, absolute=absolute, **counts)


def only(*names: str, value: Any) -> dict[str, Any]:
    """Arguments of one value."""
    return dict.fromkeys(names, value)


def row(file: Opened, *columns: str, session_id: str = "s") -> tuple[Any, ...]:
    sql = f"SELECT {', '.join(columns)} FROM sessions WHERE id = ?"
    return file.rows(sql, session_id)[0]


@pytest.mark.parametrize("name", COUNTERS)
def test_each_counter_is_added_to_its_own_column(file: Opened, name: str) -> None:
    assert file.results(update(**only(name, value=5)), update(**only(name, value=7))) == [
        None,
        None,
    ]
    assert row(file, *COUNTERS) == tuple(12 if each == name else 0 for each in COUNTERS)


@pytest.mark.parametrize("name", COUNTERS)
def test_absolute_counters_are_set(file: Opened, name: str) -> None:
    file.results(update(**only(*COUNTERS, value=9)), update(True, **only(name, value=4)))
    assert row(file, *COUNTERS) == tuple(4 if each == name else 0 for each in COUNTERS)


def test_counters_that_another_program_left_unset_count_as_zero(file: Opened) -> None:
    file.rows("UPDATE sessions SET input_tokens = NULL")
    file.results(update(input_tokens=3))
    assert row(file, "input_tokens") == (3,)


def test_costs_are_added_and_the_actual_one_only_when_given(file: Opened) -> None:
    file.results(update(estimated_cost_usd=0.5), update(estimated_cost_usd=0.25))
    assert row(file, *COSTS) == (0.75, None)
    file.results(update(input_tokens=1), update(actual_cost_usd=0.125))
    assert row(file, *COSTS) == (0.75, 0.125)
    file.results(update(actual_cost_usd=1.0), update(estimated_cost_usd=1.0))
    assert row(file, *COSTS) == (1.75, 1.125)


def test_absolute_costs_are_set_when_given_and_kept_when_not(file: Opened) -> None:
    file.results(update(estimated_cost_usd=0.5, actual_cost_usd=0.25))
    file.results(update(absolute=True, input_tokens=3))
    assert row(file, *COSTS) == (0.5, 0.25)
    file.results(update(absolute=True, estimated_cost_usd=2.0))
    assert row(file, *COSTS) == (2.0, 0.25)
    file.results(update(absolute=True, actual_cost_usd=0.0))
    assert row(file, *COSTS) == (2.0, 0.0)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("name", OVERWRITTEN)
def test_what_is_known_of_the_cost_is_overwritten_when_given(
    file: Opened, name: str, absolute: bool
) -> None:
    file.results(
        update(absolute, **only(name, value="first")),
        update(absolute, **only(name, value="second")),
    )
    file.results(update(absolute))
    assert row(file, *OVERWRITTEN) == tuple(
        "second" if each == name else None for each in OVERWRITTEN
    )


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("name", FILLED)
def test_billing_and_model_are_filled_in_once(file: Opened, name: str, absolute: bool) -> None:
    file.results(update(absolute), update(absolute, **only(name, value="first")))
    file.results(update(absolute, **only(name, value="second")))
    assert row(file, *FILLED) == tuple("first" if each == name else None for each in FILLED)


@pytest.mark.parametrize("absolute", [False, True])
def test_an_unknown_session_is_made_and_its_counts_are_kept(file: Opened, absolute: bool) -> None:
    applied = file.store.apply(works(update(absolute, "new", input_tokens=5, model="m")))
    assert applied.events == [Event("session_created", "new")]
    columns = ("source", "started_at", "input_tokens", "model")
    assert row(file, *columns, session_id="new") == ("unknown", 77.0, 5, "m")
    again = SessionCreate(session_id="new", source="telegram", started_at=99.0)
    file.results(again)
    assert row(file, *columns, session_id="new") == ("telegram", 77.0, 5, "m")


steps = st.lists(
    st.tuples(st.booleans(), st.integers(0, 1000), st.none() | st.integers(0, 50)), max_size=8
)


@settings(max_examples=30)
@given(steps=steps)
def test_one_batch_or_many_the_sums_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, int | None]]
) -> None:
    requests = [
        update(absolute, input_tokens=tokens, estimated_cost_usd=cost)
        for absolute, tokens, cost in steps
    ]
    tokens, cost = 0, 0.0
    for absolute, more, estimate in steps:
        tokens = more if absolute else tokens + more
        cost = cost + (estimate or 0) if not absolute else cost if estimate is None else estimate
    found = []
    for together in (True, False):
        folder = tmp_path_factory.mktemp("sums")
        with opened(folder / "state.db") as file:
            for group in [requests] if together else [[each] for each in requests]:
                file.results(*group)
            if requests:
                found.append(row(file, "input_tokens", "coalesce(estimated_cost_usd, 0)"))
    assert found == [(tokens, cost)] * len(found)
