"""Plans: the same for the same seed, one fault at a time, every kind in a long enough one."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_client.torture.plan import LEAD_SECONDS, Kind, Plan, make_plan

_ON_CLIENTS = {Kind.KILL_CLIENT, Kind.PAUSE_CLIENT, Kind.CUT}
_CARE = {Kind.BACKUP, Kind.CHECK, Kind.REINDEX, Kind.VACUUM}


@given(st.integers(0, 10**6), st.floats(2, 60), st.integers(1, 20))
def test_a_seed_gives_one_plan(seed: int, seconds: float, clients: int) -> None:
    plan = make_plan(seed, seconds, clients)
    assert plan == make_plan(seed, seconds, clients)
    assert [fault.at for fault in plan.faults] == sorted(fault.at for fault in plan.faults)
    for fault in plan.faults:
        assert LEAD_SECONDS <= fault.at <= seconds
        assert (fault.client is not None) is (fault.kind in _ON_CLIENTS)
        assert fault.client is None or 0 <= fault.client < clients


@given(st.integers(0, 10**6))
def test_at_most_one_fault_at_a_time_meets_the_daemon(seed: int) -> None:
    plan = make_plan(seed, 60, 4)
    daemon = [fault for fault in plan.faults if fault.kind not in _ON_CLIENTS | _CARE]
    for one, after in pairwise(daemon):
        assert one.at + one.seconds < after.at


@pytest.mark.parametrize("seed", range(20))
def test_ten_seconds_have_every_kind(seed: int) -> None:
    assert {fault.kind for fault in make_plan(seed, 10, 3).faults} == set(Kind)


def test_seeds_differ() -> None:
    plans: set[Plan] = {make_plan(seed, 10, 3) for seed in range(10)}
    assert len(plans) == 10
