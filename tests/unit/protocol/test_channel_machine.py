"""Exactly once, whatever happens on the way: the client's link against a daemon that fails.

The link is the real one and both sides exchange real bytes. Connections are lost with bytes still
on their way, which arrive later; the daemon is killed before and after commits, refuses, forgets
and goes back in time; callers give up and go away. What must hold is written as invariants.
"""

import copy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sessiond_client import _errors as errors
from sessiond_client._call import Call
from sessiond_client._link import Link, State
from sessiond_protocol import wire
from sessiond_protocol.channel import Verdict
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import Message, MessageAppend
from sessiond_protocol.requests.server import ServerPing
from sessiond_protocol.requests.session import SessionEnsure
from tests.unit.protocol.channel_model import Connection, Daemon, End, Fate, File

A_DAY = 86_400.0
EVERYTHING = 1_000_000
AMOUNTS = st.sampled_from([1, 40, 200, 10_000, 10_000, 10_000])
ENDS = st.sampled_from([End.COMMIT, End.COMMIT, *End])
FATES = st.lists(st.sampled_from(Fate), max_size=4)


def write(payload: int) -> Request[Any]:
    """A write that is known again by its payload."""
    if payload % 5:
        return MessageAppend(
            session_id=str(payload), message=Message(role="user", timestamp=1.0, content="x")
        )
    return SessionEnsure(session_id=str(payload), started_at=1.0)


class ChannelMachine(RuleBasedStateMachine):
    """One client, one daemon, and everything that may happen between them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.daemon = Daemon(max_undecided=4)
        self.link = Link("/state.db", "test")
        self.connection: Connection | None = None
        self.calls: dict[int, Call] = {}  # by payload
        self.payloads: dict[int, int] = {}  # by the call's identity
        self.cancelled: set[int] = set()
        self.told_applied: set[int] = set()
        self.never: set[int] = set()
        self.epochs: dict[int, int] = {}
        self.epoch = 0  # rises when the file goes back
        self.known_epoch = 0  # as of the last hello that was answered
        self.snapshots: list[File] = []
        self.generation = 0

    # --- the caller ------------------------------------------------------------------------

    @rule(patience=st.sampled_from([0.5, 5.0, 1800.0]))
    def start(self, patience: float) -> None:
        payload = len(self.calls) + 1
        call = Call(write(payload), self.now + patience)
        self.calls[payload] = call
        self.payloads[id(call)] = payload
        self.epochs[payload] = self.known_epoch
        self.link.start(call, self.now)
        self.listen()

    @rule(count=st.integers(2, 6))
    def start_several(self, count: int) -> None:
        for _ in range(count):
            self.start(1800.0)

    @rule()
    def ping(self) -> None:
        self.link.start(Call(ServerPing(), self.now + 5.0), self.now)

    @rule(data=st.data())
    @precondition(lambda self: any(not call.done for call in self.calls.values()))
    def cancel(self, data: st.DataObject) -> None:
        waiting = [payload for payload, call in self.calls.items() if not call.done]
        payload = data.draw(st.sampled_from(waiting))
        seq = self.link.cancel(self.calls[payload])
        self.cancelled.add(payload)
        if seq is None:
            self.never.add(payload)

    def listen(self) -> None:
        """Callers take what the link tells them."""
        while self.link.finished:
            call = self.link.finished.pop(0)
            payload = self.payloads.get(id(call))
            if payload is None:
                continue
            assert isinstance(call, Call)
            assert call.done
            assert payload not in self.told_applied | self.never | self.cancelled
            if call.error is None:
                if payload in self.daemon.file.applied:
                    self.told_applied.add(payload)
                else:
                    assert self.epoch != self.epochs[payload]
            elif isinstance(call.error, errors.OutcomeUnknown):
                gone_back = self.epoch != self.epochs[payload]
                assert call.sent
                assert self.now >= call.deadline or gone_back
            else:
                self.never.add(payload)

    # --- time ------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.link_is_driven()

    def link_is_driven(self) -> None:
        """What a driver does when it looks at the clock."""
        for call in self.link.unfinished():
            if call.deadline <= self.now:
                self.link.give_up(call)
        if self.link.resend_at is not None and self.link.resend_at <= self.now:
            self.link.resend_refused(self.now)
        self.listen()

    # --- the way between -------------------------------------------------------------------

    @rule()
    @precondition(lambda self: self.link.state is State.DOWN)
    def connect(self) -> None:
        self.connection = self.daemon.accept()
        self.link.connected()

    @rule(writes=st.integers(0, 3), amount=AMOUNTS)
    @precondition(lambda self: self.link.state is not State.DOWN)
    def lose_connection(self, writes: int, amount: int) -> None:
        """The client lets go; what has just left, maybe only a part, may still arrive."""
        self.start_several(writes)
        self.send(amount)
        self.connection = None
        self.link.lost()
        self.listen()

    def send(self, amount: int = EVERYTHING) -> None:
        if self.connection is not None:
            self.connection.inbound += self.link.out[:amount]
            del self.link.out[:amount]

    @rule(data=st.data(), amount=AMOUNTS)
    @precondition(lambda self: self.on_their_way())
    def daemon_reads(self, data: st.DataObject, amount: int) -> None:
        """Any connection's bytes may come next, also those of one that is long gone."""
        place = data.draw(st.integers(0, len(self.on_their_way()) - 1))
        self.daemon.read(self.on_their_way()[place], amount)

    def on_their_way(self) -> list[Connection]:
        """Connections with bytes that the daemon has not read."""
        self.send()
        return [each for each in self.daemon.connections if each.inbound]

    @rule(amount=AMOUNTS)
    @precondition(lambda self: self.connection is not None and self.connection.outbound)
    def client_reads(self, amount: int) -> None:
        assert self.connection is not None
        data = bytes(self.connection.outbound[:amount])
        del self.connection.outbound[:amount]
        self.link.received(data, self.now)
        self.listen()
        self.known_epoch = self.connection.epoch

    @rule(data=st.data(), sizes=st.tuples(st.integers(1, 3), st.integers(1, 3)), fates=FATES)
    @precondition(lambda self: self.link.state is State.DOWN)
    def take_up_again(self, data: st.DataObject, sizes: tuple[int, int], fates: list[Fate]) -> None:
        """A new connection goes ahead of what the daemon still has of the older ones."""
        for older in list(self.daemon.connections):
            self.daemon.read(older, data.draw(st.sampled_from([0, 1_000_000])))
        self.connect()
        assert self.connection is not None
        place = len(self.daemon.connections) - 1
        for size in sizes:
            self.send()
            self.daemon.read(self.connection, 1_000_000)
            self.daemon.batch(size, place, fates, End.COMMIT)
            if self.connection.outbound:
                self.client_reads(1_000_000)

    @rule()
    def for_a_moment_all_goes_well(self) -> None:
        """Everything that is on its way arrives, is applied and is answered."""
        if self.connection is not None and self.connection.superseded:
            self.noticed()
        if self.link.state is State.DOWN:
            self.connect()
        assert self.connection is not None
        self.send()
        self.daemon.read(self.connection, 1_000_000)
        self.daemon.batch(8, 0, [], End.COMMIT)
        self.client_reads(1_000_000)

    # --- the daemon ------------------------------------------------------------------------

    @rule(size=st.integers(1, 8), first=st.integers(0, 3), fates=FATES, end=ENDS)
    @precondition(lambda self: any(each.inbox for each in self.daemon.connections))
    def batch(self, size: int, first: int, fates: list[Fate], end: End) -> None:
        if not self.daemon.batch(size, first, fates, end):
            self.noticed()

    @rule(count=st.integers(1, 5), size=st.integers(1, 8), fates=FATES, end=ENDS)
    def writes_meet_a_fault(self, count: int, size: int, fates: list[Fate], end: End) -> None:
        if self.link.state is not State.UP:
            self.for_a_moment_all_goes_well()
        self.start_several(count)
        self.send()
        if self.connection is not None:
            self.daemon.read(self.connection, 1_000_000)
            self.batch(size, 0, fates, end)

    @rule()
    def restart(self) -> None:
        self.daemon.restart()
        self.noticed()

    @rule()
    @precondition(lambda self: self.connection is not None and self.connection.superseded)
    def cut_off(self) -> None:
        """A late hello of an older connection took the channel: the daemon ended this one."""
        self.noticed()

    def noticed(self) -> None:
        """The client sees that its connection ended."""
        self.connection = None
        if self.link.state is not State.DOWN:
            self.link.lost()
        self.listen()

    @rule()
    def copy_file(self) -> None:
        self.snapshots.append(copy.deepcopy(self.daemon.file))

    @rule(data=st.data(), online=st.booleans())
    @precondition(lambda self: self.snapshots)
    def go_back(self, data: st.DataObject, online: bool) -> None:
        """An earlier file takes the place of the present one."""
        self.generation += 1
        self.epoch += 1
        self.daemon.go_back(data.draw(st.sampled_from(self.snapshots)), self.generation)
        self.daemon.epoch = self.epoch
        self.told_applied &= set(self.daemon.file.applied)
        if not online:
            self.restart()

    @rule()
    @precondition(lambda self: self.snapshots)
    def lose_tail(self) -> None:
        """The last commits are lost and nobody can tell (power cut, not synchronous)."""
        earlier = self.snapshots[-1]
        if earlier.generation == self.daemon.file.generation:
            self.epoch += 1
            self.daemon.epoch = self.epoch
            self.daemon.go_back(earlier, earlier.generation)
            self.told_applied &= set(self.daemon.file.applied)
            self.restart()

    @rule()
    def lose_side_tables(self) -> None:
        """Another program has written the file anew and left out what is only ours."""
        self.generation += 1
        self.epoch += 1
        self.daemon.expire()
        self.daemon.go_back(self.daemon.file, self.generation)
        self.daemon.epoch = self.epoch
        self.restart()

    @rule()
    @precondition(lambda self: self.link.state is State.DOWN)
    def expire(self) -> None:
        """Nobody connects for so long that every deadline passes and the row goes."""
        self.now += 2 * A_DAY
        self.link_is_driven()
        while self.daemon.connections:
            self.daemon.connections.pop()
        self.daemon.expire()

    @rule(data=st.data())
    @precondition(lambda self: self.link.state is State.UP and self.link._channel.acked)
    def a_number_is_used_again(self, data: st.DataObject) -> None:
        """A client that has gone wrong sends another request under an old number."""
        assert self.connection is not None
        if self.epoch:
            return
        self.send()
        seq = data.draw(st.integers(1, self.link._channel.acked))
        payload = 1_000_000 + len(self.never)
        self.never.add(payload)
        request = write(payload)
        self.connection.inbound += wire.request(
            2_000_000, request.METHOD, wire.pack(request), wire.Place(seq=seq, floor=1)
        )
        self.daemon.read(self.connection, 1_000_000)
        self.daemon.batch(1_000_000, 0, [], End.COMMIT)
        assert self.daemon.verdicts[-1] in (Verdict.REUSED, Verdict.DROP)

    # --- what must hold --------------------------------------------------------------------

    @invariant()
    def nothing_is_applied_twice(self) -> None:
        applied = self.daemon.file.applied
        assert len(applied) == len(set(applied))

    @invariant()
    def writes_are_applied_in_the_order_of_the_calls(self) -> None:
        applied = self.daemon.file.applied
        assert applied == sorted(applied)

    @invariant()
    def what_was_told_applied_is_there(self) -> None:
        assert self.told_applied <= set(self.daemon.file.applied)

    @invariant()
    def what_was_told_not_applied_never_is(self) -> None:
        assert not self.never & set(self.daemon.file.applied)

    @invariant()
    def every_call_is_waiting_or_done(self) -> None:
        waiting = set(map(id, self.link.unfinished()))
        for call in self.calls.values():
            assert call.done or id(call) in waiting

    def teardown(self) -> None:
        """Once nothing goes wrong any more, everything is decided and nothing is held back."""
        for call in self.link.unfinished():
            call.deadline = self.now + 1e9
        self.start(1e9)
        for _ in range(40 + len(self.calls)):
            self.for_a_moment_all_goes_well()
            self.now += 1.0
            self.link_is_driven()
        assert not self.link.busy
        assert self.link._channel.floor == self.link.last_seq + 1
        assert max(self.calls) in self.told_applied
        for check in (
            self.nothing_is_applied_twice,
            self.writes_are_applied_in_the_order_of_the_calls,
            self.what_was_told_applied_is_there,
            self.what_was_told_not_applied_never_is,
        ):
            check()


ChannelMachine.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_exactly_once = ChannelMachine.TestCase
