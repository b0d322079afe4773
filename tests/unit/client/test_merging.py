"""Merging increments gives what sending each of them would have given."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sessiond_client._merging import COSTS, COUNTERS, LAST_WINS, MAX_SESSIONS, ROUTE, Merges, merged
from sessiond_protocol.content import MAX_INTEGER
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import Message, MessageAppend, MessageClear
from sessiond_protocol.requests.server import BatchApply
from sessiond_protocol.requests.session import (
    SessionCreate,
    SessionPruneSlice,
    SessionUpdateTokens,
)


@dataclass
class Row:
    """A session's columns, and what the daemon does to them."""

    columns: dict[str, Any] = field(default_factory=dict)

    def apply(self, request: SessionUpdateTokens) -> None:
        columns = self.columns
        columns.setdefault("started_at", request.at)
        for name in COUNTERS:
            kept = 0 if request.absolute else columns.get(name, 0)
            columns[name] = kept + getattr(request, name)
        for name in COSTS:
            given_cost, kept = getattr(request, name), columns.get(name)
            if request.absolute:
                columns[name] = kept if given_cost is None else given_cost
            elif given_cost is not None or name == "estimated_cost_usd":
                columns[name] = (kept or 0) + (given_cost or 0)
        for name in LAST_WINS:
            if getattr(request, name) is not None:
                columns[name] = getattr(request, name)
        for name in ROUTE:
            if columns.get(name) is None:
                columns[name] = getattr(request, name)


def after(*requests: SessionUpdateTokens) -> dict[str, Any]:
    row = Row()
    for request in requests:
        row.apply(request)
    return row.columns


def increment(session_id: str = "s", at: float = 0.0, **given: Any) -> SessionUpdateTokens:
    return SessionUpdateTokens(session_id=session_id, at=at, **given)


# Costs are multiples of 1/8: sums of them are exact, in whatever order they are added.
_costs = st.none() | st.integers(-80, 80).map(lambda eighths: eighths / 8)
_texts = st.sampled_from([None, None, "a", "b"])
_fields = {
    **{name: st.integers(-5, 1000) for name in COUNTERS},
    **dict.fromkeys(COSTS, _costs),
    **dict.fromkeys((*LAST_WINS, *ROUTE), _texts),
}
_increments = st.builds(
    SessionUpdateTokens,
    session_id=st.sampled_from("xyz"),
    at=st.floats(0, 9),
    absolute=st.sampled_from([False, False, False, True]),
    **_fields,
)


@given(st.lists(_increments, max_size=12))
def test_what_is_sent_leaves_every_session_as_the_increments_would(
    increments: list[SessionUpdateTokens],
) -> None:
    merges = Merges()
    sent: list[SessionUpdateTokens] = []
    for each in increments:
        if each.absolute:
            sent += [*merges.before(each), each]
        else:
            sent += merges.add(each)
    sent += merges.take()
    assert len(merges) == 0
    for name in "xyz":
        wanted = after(*(each for each in increments if each.session_id == name))
        assert after(*(each for each in sent if each.session_id == name)) == wanted


@given(st.lists(_increments, min_size=1, max_size=12))
def test_at_most_one_increment_of_a_session_waits(increments: list[SessionUpdateTokens]) -> None:
    merges = Merges()
    for each in increments:
        merges.add(each)
        assert len(merges) <= 3
    sessions = [each.session_id for each in merges.take()]
    assert len(sessions) == len(set(sessions))


def test_adjacent_increments_become_one() -> None:
    merges = Merges()
    assert merges.add(increment(at=1.0, input_tokens=1, model="m", cost_status="first")) == []
    assert merges.add(increment("other")) == []
    assert merges.add(increment(at=2.0, input_tokens=2, cost_status="last")) == []
    first, _ = merges.take()
    assert first == increment(at=1.0, input_tokens=3, model="m", cost_status="last")


def test_no_cost_stays_no_cost() -> None:
    assert merged(increment(), increment(actual_cost_usd=0.5)) == increment(actual_cost_usd=0.5)
    assert merged(increment(actual_cost_usd=0.5), increment()) == increment(actual_cost_usd=0.5)
    assert merged(increment(), increment()) == increment()


def test_another_route_closes_a_merge() -> None:
    for name in ROUTE:
        merges = Merges()
        routes: list[dict[str, Any]] = [{name: "a"}, {name: "b"}]
        first, second = (increment(**each) for each in routes)
        assert merges.add(first) == []
        assert merges.add(second) == [first]
        assert merges.take() == [second]


def test_setting_the_counters_is_never_merged() -> None:
    for first, second in itertools.permutations([increment(), increment(absolute=True)]):
        assert merged(first, second) is None


def test_a_sum_that_does_not_fit_stays_two() -> None:
    most = increment(input_tokens=MAX_INTEGER)
    assert merged(most, increment(input_tokens=1)) is None
    assert merged(most, increment(output_tokens=1)) is not None


def test_another_write_takes_what_its_sessions_wait_for() -> None:
    writes: list[tuple[Request[Any], str]] = [
        (MessageAppend(session_id="x", message=Message(role="user", timestamp=0)), "x"),
        (MessageClear(session_id="none"), ""),
        (increment("y", absolute=True), "y"),
        (SessionCreate(session_id="z", source="cli", started_at=0, parent_session_id="x"), "zx"),
        (SessionCreate(session_id="x", source="cli", started_at=0, parent_session_id="x"), "x"),
        (SessionPruneSlice(before=0), "xyz"),
        (BatchApply(items=[]), "xyz"),
    ]
    for write, taken in writes:
        merges = Merges()
        for name in "xyz":
            merges.add(increment(name))
        assert [each.session_id for each in merges.before(write)] == list(taken)
        left = [name for name in "xyz" if name not in taken]
        assert [each.session_id for each in merges.take()] == left


def test_too_many_sessions_send_what_waits() -> None:
    merges = Merges()
    for number in range(MAX_SESSIONS):
        assert merges.add(increment(str(number))) == []
    assert merges.add(increment("0", input_tokens=1)) == []
    assert len(merges.add(increment("one more"))) == MAX_SESSIONS
    assert [each.session_id for each in merges.take()] == ["one more"]
