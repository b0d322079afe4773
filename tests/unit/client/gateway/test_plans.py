"""Calls about session keys: alone, and any number of them in any order, cut off anywhere."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from sessiond_client import NotFound, OutcomeUnknown
from sessiond_client.gateway import (
    GatewayConfig,
    Platform,
    SessionEntry,
    SessionResetPolicy,
    SessionSource,
    plans,
)
from sessiond_client.gateway.entry import local_datetime
from sessiond_client.gateway.plans import RESET, SWITCH, RoutePlans
from sessiond_client.gateway.steps import Contended, Plan
from sessiond_protocol.requests.route import Route, RouteGet, RoutePut
from tests.unit.client.gateway.table import Running, Table, carry_out

NOON = 1_770_000_000.0
HOUR = 3600.0
IDLE = GatewayConfig(default_reset_policy=SessionResetPolicy("idle", idle_minutes=60))
NEVER = GatewayConfig(default_reset_policy=SessionResetPolicy("none"))
ANNA = SessionSource(Platform.TELEGRAM, "7", chat_name="Anna", user_id="u7")
KEY = "agent:main:telegram:dm:7"


class Gateway:
    """One process's plans over a shared table, with a clock of its own to set."""

    def __init__(self, table: Table, config: GatewayConfig = IDLE) -> None:
        self.table = table
        self.now = NOON
        self.busy: set[str] = set()
        self.told: list[SessionEntry] = []
        self.changes = 0
        self.plans = RoutePlans(
            config, lambda: self.now, lambda key: key in self.busy, self.told.append, self._changed
        )

    def _changed(self) -> None:
        self.changes += 1

    def __call__(self, plan: Plan[Any]) -> Any:
        return carry_out(plan, self.table)

    def get(self, source: SessionSource = ANNA, force_new: bool = False) -> SessionEntry:
        entry: SessionEntry = self(self.plans.get_or_create_session(source, force_new))
        return entry


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def gateway(table: Table) -> Gateway:
    return Gateway(table)


def reason(table: Table, session_id: str) -> Any:
    return table.sessions[session_id]["end_reason"]


# --- get_or_create_session ---------------------------------------------------------------------


def test_the_first_message_makes_a_session(gateway: Gateway, table: Table) -> None:
    entry = gateway.get()
    assert entry.session_key == KEY
    assert (entry.origin, entry.display_name, entry.platform) == (ANNA, "Anna", Platform.TELEGRAM)
    assert entry.created_at == entry.updated_at == local_datetime(NOON)
    assert table.sessions == {
        entry.session_id: {
            "id": entry.session_id,
            "end_reason": None,
            "source": "telegram",
            "user_id": "u7",
        }
    }
    assert table.routes[KEY].session_id == entry.session_id


def test_a_live_session_is_touched_and_goes_on(gateway: Gateway, table: Table) -> None:
    first = gateway.get()
    gateway.now += HOUR
    again = gateway.get(replace(ANNA, chat_name="renamed"))
    assert again == replace(first, updated_at=local_datetime(NOON + HOUR))
    assert table.routes[KEY].updated_at == NOON + HOUR
    assert gateway.told == []


def test_a_stale_session_is_replaced_and_the_reset_is_told(gateway: Gateway, table: Table) -> None:
    old = gateway.get()
    gateway(gateway.plans.update_session(KEY, {"input_tokens": 3}, None, {}))
    gateway.now += HOUR + 1
    new = gateway.get()
    assert new.session_id != old.session_id
    assert (new.was_auto_reset, new.auto_reset_reason, new.reset_had_activity) == (
        True,
        "idle",
        True,
    )
    assert new.input_tokens == 0
    assert [entry.session_id for entry in gateway.told] == [old.session_id]
    assert reason(table, old.session_id) == RESET
    assert reason(table, new.session_id) is None
    again = gateway.get()
    assert again == replace(
        new, was_auto_reset=False, auto_reset_reason=None, reset_had_activity=False
    )


def test_a_reset_without_activity_says_so(gateway: Gateway) -> None:
    gateway.get()
    gateway.now += HOUR + 1
    assert gateway.get().reset_had_activity is False


def test_a_session_with_active_processes_is_never_stale(gateway: Gateway) -> None:
    old = gateway.get()
    gateway.busy.add(KEY)
    gateway.now += 100 * HOUR
    assert gateway.get().session_id == old.session_id


def test_the_policy_is_that_of_the_source(table: Table) -> None:
    config = replace(NEVER, reset_by_platform={Platform.TELEGRAM: IDLE.default_reset_policy})
    gateway = Gateway(table, config)
    slack = replace(ANNA, platform=Platform.SLACK)
    kept, replaced = gateway.get(slack), gateway.get()
    gateway.now += HOUR + 1
    assert gateway.get(slack).session_id == kept.session_id
    assert gateway.get().session_id != replaced.session_id


def test_a_callback_that_fails_is_logged_and_the_reset_goes_on(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(entry: SessionEntry) -> None:
        raise RuntimeError("memory could not be saved")

    now = NOON
    routes = RoutePlans(IDLE, lambda: now, None, failing, lambda: None)
    old = carry_out(routes.get_or_create_session(ANNA, False), table)
    now += HOUR + 1
    new = carry_out(routes.get_or_create_session(ANNA, False), table)
    assert new.session_id != old.session_id
    assert "memory could not be saved" in caplog.text


def test_what_a_callback_does_to_the_old_entry_stays_with_it(table: Table) -> None:
    def spoiling(entry: SessionEntry) -> None:
        entry.total_tokens = 10**6

    now = NOON
    routes = RoutePlans(IDLE, lambda: now, None, spoiling, lambda: None)
    carry_out(routes.get_or_create_session(ANNA, False), table)
    now += HOUR + 1
    assert carry_out(routes.get_or_create_session(ANNA, False), table).reset_had_activity is False


def test_a_forced_session_ends_the_live_one_without_flags(gateway: Gateway, table: Table) -> None:
    old = gateway.get()
    new = gateway.get(force_new=True)
    assert new.session_id != old.session_id
    assert new.was_auto_reset is False
    assert gateway.told == []
    assert reason(table, old.session_id) == RESET


def test_a_reset_is_decided_on_what_is_there_now(table: Table) -> None:
    ours, theirs = Gateway(table), Gateway(table)
    session = ours.get().session_id
    theirs.now = ours.now = NOON + HOUR - 1
    theirs.get()
    ours.now += HOUR / 2
    assert ours.get().session_id == session
    assert ours.told == []


def test_a_new_id_that_is_taken_gives_way_to_another(
    gateway: Gateway, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["taken", "free"])
    monkeypatch.setattr(plans, "new_session_id", lambda now: next(ids))
    table.make("taken")
    assert gateway.get().session_id == "free"


def test_text_that_has_no_bytes_is_stored_cleaned(gateway: Gateway, table: Table) -> None:
    odd = SessionSource(Platform.LOCAL, "\ud800", chat_name="\udfff", user_id="\ud800")
    entry = gateway.get(odd)
    assert entry.session_key == "agent:main:local:dm:\ufffd"
    assert gateway.get(odd).display_name == "\ufffd"
    assert table.sessions[entry.session_id]["user_id"] == "\ufffd"


def test_an_entry_that_cannot_be_read_is_the_session_it_points_at(
    gateway: Gateway, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    table.make("s")
    table.routes[KEY] = Route(
        session_key=KEY, session_id="s", version=4, updated_at=NOON, entry='{"platform": [}'
    )
    assert gateway.get().session_id == "s"
    assert f"entry of '{KEY}' cannot be read" in caplog.text


# --- the other calls ---------------------------------------------------------------------------


def update(gateway: Gateway, **known: Any) -> None:
    last_prompt_tokens = known.pop("last_prompt_tokens", None)
    gateway(gateway.plans.update_session(KEY, known, last_prompt_tokens, {"model": "m"}))


def test_totals_are_stored_and_what_is_left_out_is_kept(gateway: Gateway, table: Table) -> None:
    gateway.get()
    update(gateway, input_tokens=5, output_tokens=2, cache_read_tokens=1, cost_status="exact")
    gateway.now += 1
    update(gateway, input_tokens=7, last_prompt_tokens=4, estimated_cost_usd=0.25)
    entry = gateway.get()
    assert (entry.input_tokens, entry.output_tokens, entry.cache_read_tokens) == (7, 2, 1)
    assert (entry.total_tokens, entry.last_prompt_tokens) == (10, 4)
    assert (entry.estimated_cost_usd, entry.cost_status) == (0.25, "exact")
    totals = table.puts[-2].totals
    assert totals is not None
    assert (totals.input_tokens, totals.output_tokens, totals.model) == (7, None, "m")
    assert table.routes[KEY].updated_at == NOON + 1


def test_totals_of_an_unknown_key_are_nobodys(gateway: Gateway, table: Table) -> None:
    update(gateway, input_tokens=5)
    assert (table.routes, table.sessions, gateway.changes) == ({}, {}, 0)


@pytest.mark.parametrize(
    ("known", "error"),
    [
        ({"input_tokens": 2**63}, ValueError),
        ({"input_tokens": 1.5}, ValueError),
        ({"estimated_cost_usd": float("nan")}, ValueError),
        ({"cost_status": 1}, TypeError),
    ],
)
def test_totals_that_no_column_holds_are_refused_by_name(
    gateway: Gateway, known: dict[str, Any], error: type[Exception]
) -> None:
    gateway.get()
    with pytest.raises(error, match=next(iter(known))):
        update(gateway, **known)


def test_a_sum_that_no_column_holds_is_cut(gateway: Gateway) -> None:
    gateway.get()
    update(gateway, input_tokens=2**63 - 1, output_tokens=1)
    assert gateway.get().total_tokens == 2**63 - 1


def test_a_reset_makes_a_new_session_of_the_same_origin(gateway: Gateway, table: Table) -> None:
    old = gateway.get()
    update(gateway, input_tokens=5, last_prompt_tokens=9)
    new = gateway(gateway.plans.reset_session(KEY))
    assert new.session_id != old.session_id
    assert replace(new, session_id=old.session_id) == old
    assert reason(table, old.session_id) == RESET
    assert table.sessions[new.session_id]["user_id"] == "u7"
    assert gateway(gateway.plans.reset_session("unknown")) is None


def test_a_switch_takes_up_another_session_with_its_counters(
    gateway: Gateway, table: Table
) -> None:
    old = gateway.get()
    table.make("t", started_at=NOON - HOUR, input_tokens=4, output_tokens=2, cost_status=None)
    table.sessions["t"]["end_reason"] = "done"
    entry = gateway(gateway.plans.switch_session(KEY, "t"))
    assert (entry.session_id, entry.origin) == ("t", ANNA)
    assert (entry.input_tokens, entry.total_tokens) == (4, 6)
    assert entry.created_at == local_datetime(NOON - HOUR)
    assert (reason(table, "t"), reason(table, old.session_id)) == (None, SWITCH)


def test_a_switch_to_where_it_is_changes_nothing(gateway: Gateway, table: Table) -> None:
    entry = gateway.get()
    before = len(table.puts)
    assert gateway(gateway.plans.switch_session(KEY, entry.session_id)) == entry
    assert len(table.puts) == before


def test_a_switch_to_nowhere_is_an_error_and_changes_nothing(
    gateway: Gateway, table: Table
) -> None:
    entry = gateway.get()
    with pytest.raises(NotFound, match="session 'nowhere' does not exist"):
        gateway(gateway.plans.switch_session(KEY, "nowhere"))
    assert table.routes[KEY].session_id == entry.session_id
    assert gateway(gateway.plans.switch_session("unknown", "nowhere")) is None


def test_entries_are_listed_newest_first(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "PAGE", 2)
    for chat in ("3", "1", "2", "5", "4"):
        gateway.now += 60
        gateway.get(replace(ANNA, chat_id=chat))
    listed = gateway(gateway.plans.list_sessions(None))
    assert [entry.origin.chat_id for entry in listed] == ["4", "5", "2", "1", "3"]
    recent = gateway(gateway.plans.list_sessions(1))
    assert [entry.origin.chat_id for entry in recent] == ["4", "5"]


def test_an_entry_is_stale_by_its_own_platform(gateway: Gateway) -> None:
    entry = gateway.get()
    assert gateway(gateway.plans.is_session_expired(entry)) is None
    gateway.now += HOUR + 1
    assert gateway(gateway.plans.is_session_expired(entry)) == "idle"
    unknown = replace(entry, platform=None, origin=None)
    assert gateway(gateway.plans.is_session_expired(unknown)) == "idle"
    gateway.busy.add(KEY)
    assert gateway(gateway.plans.is_session_expired(entry)) is None


def test_a_legacy_file_is_taken_over_where_there_is_no_route(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "MAX_IMPORTED", 2)
    gateway = Gateway(table)
    present = gateway.get()
    moment = local_datetime(NOON)
    entries = {
        key: SessionEntry(key, f"s {key}", moment, moment).to_dict()
        for key in (KEY, "a", "b", "c", "\ud800")
    }
    (tmp_path / "sessions.json").write_text(json.dumps({**entries, "bad": 5}))
    legacy = gateway(gateway.plans.take_over(tmp_path))
    assert legacy.unreadable == {"bad": 5}
    assert table.routes.keys() == {KEY, "a", "b", "c", "\ufffd"}
    assert table.routes[KEY].session_id == present.session_id
    assert table.routes["a"].session_id == "s a"
    again = Gateway(table)
    again(again.plans.take_over(tmp_path))
    assert again.changes == 0


def test_a_put_whose_outcome_is_unknown_is_told_and_the_next_call_finds_out(
    gateway: Gateway, table: Table
) -> None:
    running = Running(gateway.plans.get_or_create_session(ANNA, False))

    def lost(step: Any) -> Any:
        answer = table.answer(step)
        if isinstance(step, RoutePut):
            raise OutcomeUnknown("nobody knows")
        return answer

    running.carry_out(lost)
    running.carry_out(lost)
    with pytest.raises(OutcomeUnknown):
        running.carry_out(lost)
    assert gateway.get().session_id == table.routes[KEY].session_id
    assert len(table.sessions) == 1


# --- many at once ------------------------------------------------------------------------------

SOURCES = [ANNA, replace(ANNA, chat_id="8")]
KEYS = [KEY, "agent:main:telegram:dm:8"]
TARGETS = ["t1", "t2"]
Start = Callable[[Gateway, int, str], Plan[Any]]
CALLS: dict[str, Start] = {
    "get": lambda g, n, t: g.plans.get_or_create_session(SOURCES[n], False),
    "force": lambda g, n, t: g.plans.get_or_create_session(SOURCES[n], True),
    "reset": lambda g, n, t: g.plans.reset_session(KEYS[n]),
    "update": lambda g, n, t: g.plans.update_session(KEYS[n], {"input_tokens": 1}, None, {}),
    "switch": lambda g, n, t: g.plans.switch_session(KEYS[n], t),
}


class ManyGateways(RuleBasedStateMachine):
    """Three gateways' calls on two keys, step by step in any order, each cut off anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.gateways = [Gateway(self.table) for _ in range(3)]
        self.running: list[tuple[str, int, Running]] = []
        # Every session that a key has pointed at, and the ids that came with a reset's flags.
        self.pointed: dict[str, list[str]] = {key: [] for key in KEYS}
        self.flagged: list[str] = []

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        ids = _ids(random.Random(seed))
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(plans, "new_session_id", lambda now: next(ids))
        for target in TARGETS:
            self.table.make(target, started_at=NOON)

    def teardown(self) -> None:
        for _, _, running in self.running:
            running.abandon(self.table.answer, after_the_step=False)
        if hasattr(self, "_patch"):
            self._patch.undo()

    @rule(call=st.sampled_from(sorted(CALLS)), gateway=st.integers(0, 2), key=st.integers(0, 1),
          aim=st.sampled_from(TARGETS))  # fmt: skip
    def start(self, call: str, gateway: int, key: int, aim: str) -> None:
        plan = CALLS[call](self.gateways[gateway], key, aim)
        self.running.append((call, key, Running(plan)))

    @rule(gateway=st.integers(0, 2), key=st.integers(0, 1), minutes=st.sampled_from([0, 61]))
    def a_message_comes(self, gateway: int, key: int, minutes: int) -> None:
        """The most frequent call, from beginning to end between two steps of the others."""
        self.time_passes(minutes)
        self.start("get", gateway, key, "")
        self._finish(len(self.running) - 1)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def one_step(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.running) - 1))
        call, key, running = self.running[place]
        running.carry_out(self._answer)
        if running.is_done:
            del self.running[place]
            self._finished(call, key, running.result)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def all_its_steps(self, data: st.DataObject) -> None:
        self._finish(data.draw(st.integers(0, len(self.running) - 1)))

    def _finish(self, place: int) -> None:
        call, key, running = self.running.pop(place)
        while not running.is_done:
            running.carry_out(self._answer)
        self._finished(call, key, running.result)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), after_the_step=st.booleans())
    def kill(self, data: st.DataObject, after_the_step: bool) -> None:
        place = data.draw(st.integers(0, len(self.running) - 1))
        _, _, running = self.running.pop(place)
        running.abandon(self._answer, after_the_step=after_the_step)

    @rule(minutes=st.sampled_from([1, 30, 61]))
    def time_passes(self, minutes: int) -> None:
        for gateway in self.gateways:
            gateway.now += minutes * 60

    def _answer(self, step: Any) -> Any:
        before = len(self.table.puts)
        answer = self.table.answer(step)
        for put in self.table.puts[before:]:
            self.pointed[put.session_key].append(put.session_id)
        return answer

    def _finished(self, call: str, key: int, result: Any) -> None:
        if call != "update" and result is not None:
            assert result.session_key == KEYS[key]
            assert result.session_id in self.pointed[KEYS[key]]
        if call == "get" and result.was_auto_reset:
            assert result.session_id not in self.flagged
            assert result.session_id in {
                put.session_id
                for put in self.table.puts
                if put.session.mode == "new" and put.end is not None
            }
            self.flagged.append(result.session_id)
        elif call in ("force", "reset") and result is not None:
            assert not result.was_auto_reset

    @invariant()
    def every_key_points_at_a_session_that_goes_on(self) -> None:
        for route in self.table.routes.values():
            assert route.session_id in self.table.sessions

    @invariant()
    def nothing_that_was_made_is_left_open_and_unreachable(self) -> None:
        current = {route.session_id for route in self.table.routes.values()}
        for session_id, row in self.table.sessions.items():
            if session_id in TARGETS:
                continue  # two keys may have been switched to one of them
            assert (row["end_reason"] is None) == (session_id in current)

    @invariant()
    def every_change_has_a_version(self) -> None:
        for key, route in self.table.routes.items():
            assert route.version == len(self.pointed[key])

    @invariant()
    def nobody_was_told_of_a_session_that_was_never_there(self) -> None:
        ever = {session_id for ids in self.pointed.values() for session_id in ids}
        for gateway in self.gateways:
            assert {entry.session_id for entry in gateway.told} <= ever


def _ids(chooser: random.Random) -> Iterator[str]:
    """Ids of which some come twice."""
    while True:
        yield f"s{chooser.randrange(1000)}"


TestManyGateways = ManyGateways.TestCase
TestManyGateways.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_of_gateways_that_ask_at_once_one_resets_and_all_get_its_session(table: Table) -> None:
    gateways = [Gateway(table) for _ in range(5)]
    for gateway in gateways:
        gateway.get()
        gateway.now += HOUR + 1
    calls = [Running(each.plans.get_or_create_session(ANNA, False)) for each in gateways]
    while not all(call.is_done for call in calls):
        for call in calls:
            if not call.is_done:
                call.carry_out(table.answer)
    entries = [call.result for call in calls]
    assert len({entry.session_id for entry in entries}) == 1
    assert [entry.was_auto_reset for entry in entries].count(True) == 1
    assert len(table.sessions) == 2
    assert [len(gateway.told) for gateway in gateways] == [1] * 5


def test_what_was_touched_since_a_call_began_is_not_touched_again(table: Table) -> None:
    quick, slow = Gateway(table), Gateway(table)
    slow.get()
    late = Running(slow.plans.get_or_create_session(ANNA, False))
    late.carry_out(table.answer)
    quick.now += HOUR + 1
    winner = quick.get()
    assert winner.was_auto_reset
    before = len(table.puts)
    while not late.is_done:
        late.carry_out(table.answer)
    assert late.result == replace(
        winner, was_auto_reset=False, auto_reset_reason=None, reset_had_activity=False
    )
    assert len(table.puts) == before


def test_a_session_that_is_forced_by_two_is_two_sessions(table: Table) -> None:
    first, second = Gateway(table), Gateway(table)
    calls = [Running(each.plans.get_or_create_session(ANNA, True)) for each in (first, second)]
    while not all(call.is_done for call in calls):
        for call in calls:
            if not call.is_done:
                call.carry_out(table.answer)
    made = [call.result.session_id for call in calls]
    assert len(set(made)) == 2
    assert [reason(table, session) for session in made] == [RESET, None]


def test_whoever_loses_says_so_before_deciding_again(gateway: Gateway, table: Table) -> None:
    plan = gateway.plans.get_or_create_session(ANNA, False)
    assert isinstance(next(plan), RouteGet)
    put = plan.send(None)
    Gateway(table).get()
    step = plan.send(table.answer(put))
    assert isinstance(step, Contended)
    assert KEY in step.what
    plan.close()
