"""Exactly once: the two halves of a channel as pure state machines.

A *channel* is one logical stream of writes with at most one live connection. Each write carries
``seq`` (from 1, rising by one, given when its bytes enter the send buffer and never before) and
``floor``, the lowest number still outstanding at the client.

The daemon *decides* number n if and only if ``n = max(last, floor - 1) + 1``. Deciding is
applying, or failing for a reason of the request; both leave a receipt. A refusal for a reason of
the daemon decides nothing, so the same number may be sent again. After a lost connection the
client sends what is outstanding again, in order; what was decided is answered from its receipt.
"""

from bisect import bisect_right
from collections.abc import Iterable
from enum import Enum, auto
from itertools import takewhile
from typing import Final

import msgspec

from sessiond_protocol.errors import DECIDED, Code
from sessiond_protocol.receipts import IdReceipts, Receipt, Receipts

# From a channel's floor to its highest number. More could pile up receipts without end at a
# client that never says what it has heard.
MAX_UNDECIDED: Final = 4096
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
CLIENT_ID_BYTES: Final = 16
_LONGEST_ID: Final = 9  # bytes of a message id on the wire


# --- the daemon's half ---------------------------------------------------------------------


class Verdict(Enum):
    """What the daemon does with a numbered write."""

    DECIDE = auto()  # apply it now, its number is next
    ANSWER = auto()  # it was decided before: answer from the receipt
    DROP = auto()  # below the floor: the client no longer waits for it
    OUT_OF_ORDER = auto()  # a predecessor was refused or is missing: refuse, decide nothing
    REUSED = auto()  # this number belonged to a different request
    FULL = auto()  # too much is unconfirmed: refuse, decide nothing


class ServerChannel(msgspec.Struct):
    """What the daemon knows of one channel after its last commit.

    ``last`` is the highest number decided, ``floor`` the highest floor seen; ``known`` says
    whether any number of this channel has been decided.
    """

    last: int = 0
    floor: int = 1
    known: bool = False
    receipts: dict[int, Receipts] = msgspec.field(default_factory=dict)  # in rising order of seq
    answer_bytes: int = 0

    def keep(self, receipts: Iterable[Receipts]) -> None:
        """Add receipts in rising order, above those that are here."""
        for receipt in receipts:
            self.receipts[receipt.seq] = receipt
            self.answer_bytes += receipt.answer_bytes

    def absorb(self, run: "ChannelRun") -> None:
        """Take over what a run decided, once its transaction is committed."""
        self.last = run.last
        self.floor = run.floor
        self.known = self.known or bool(run.decided)
        self.keep(run.decided)
        self._forget_confirmed()

    def _forget_confirmed(self) -> None:
        floor = self.floor
        confirmed = list(takewhile(lambda each: each.last < floor, self.receipts.values()))
        for each in confirmed:
            del self.receipts[each.seq]
            self.answer_bytes -= each.answer_bytes

    def receipt(self, seq: int) -> Receipt | None:
        """The receipt of a number from the floor on."""
        if not self.floor <= seq <= self.last:
            return None
        for first in range(seq, seq - MAX_UNDECIDED, -1):  # where there is no gap, only a few
            found = self.receipts.get(first)
            if found is not None:
                return found.of(seq)
        return None

    def status(self, seq: int) -> str:
        """What became of a number, as ``request.status`` says it.

        Of a channel without a row nothing is known: it may be new, or its row has expired.
        """
        if not self.known:
            return "unknown"
        if seq > self.last:
            return "not_applied" if seq >= self.floor else "unknown"
        receipt = self.receipt(seq)
        if receipt is None:
            return "unknown"
        return "applied" if receipt.error is None else "failed"


class ChannelRun:
    """A channel inside one run of a batch: reads the committed state, keeps what it adds.

    A run that is rolled back is thrown away; the committed state never saw it.
    """

    __slots__ = ("_answer_bytes", "_base", "decided", "floor", "last")

    def __init__(self, base: ServerChannel) -> None:
        self._base = base
        self.last = base.last
        self.floor = base.floor
        self.decided: list[Receipts] = []  # in rising order of seq
        self._answer_bytes = base.answer_bytes

    def judge(self, seq: int, floor: int, identity: bytes) -> Verdict:
        """What to do with number ``seq``; changes nothing but the floor it has seen."""
        if floor > self.floor:
            self.floor = floor
        if seq > self.last:
            if seq < self.floor:
                return Verdict.DROP
            if seq != self.next:
                return Verdict.OUT_OF_ORDER
            return Verdict.FULL if self._is_full(seq) else Verdict.DECIDE
        receipt = self.receipt(seq) if seq >= self.floor else None
        if receipt is None:
            return Verdict.DROP
        return Verdict.ANSWER if receipt.digest == identity else Verdict.REUSED

    def takes(self, seq: int, count: int, lowest_floor: int, highest_floor: int) -> bool:
        """Whether so many numbers from ``seq`` on, sent with these floors, may all be decided.

        False also where that cannot be told at a glance; each must then be judged by itself.
        """
        floor = max(self.floor, lowest_floor)
        return (
            seq == max(self.last, floor - 1) + 1
            and seq >= max(self.floor, highest_floor)
            and seq + count - floor <= MAX_UNDECIDED
            and self._answer_bytes + count * _LONGEST_ID <= MAX_ANSWER_BYTES
        )

    @property
    def next(self) -> int:
        """The only number that can be decided now."""
        return max(self.last, self.floor - 1) + 1

    def _is_full(self, seq: int) -> bool:
        """Whether the client has too much to confirm; never for the lowest it waits for."""
        if seq - self.floor >= MAX_UNDECIDED:
            return True
        if self._answer_bytes <= MAX_ANSWER_BYTES:
            return False
        kept = (*self._base.receipts.values(), *self.decided)
        self._answer_bytes = sum(each.answer_bytes for each in kept if each.last >= self.floor)
        return self._answer_bytes > MAX_ANSWER_BYTES

    def receipt(self, seq: int) -> Receipt | None:
        """The receipt of a number decided before, in this run or earlier."""
        place = bisect_right(self.decided, seq, key=_seq)
        found = self.decided[place - 1].of(seq) if place else None
        return self._base.receipt(seq) if found is None else found

    def decide(self, receipt: Receipt) -> None:
        """Note how the next number was decided."""
        self.last = receipt.seq
        self.decided.append(receipt)
        self._answer_bytes += receipt.answer_bytes

    def decide_all(self, receipts: IdReceipts, highest_floor: int) -> None:
        """Note how numbers were decided that it :meth:`takes`."""
        self.floor = max(self.floor, highest_floor)
        self.last = receipts.last
        self.decided.append(receipts)
        self._answer_bytes += receipts.answer_bytes


def _seq(receipt: Receipts) -> int:
    return receipt.seq


def decides(code: str) -> bool:
    """Whether a failure with this code uses its number up."""
    return code in DECIDED or code == Code.INTERNAL


# --- the client's half ---------------------------------------------------------------------


class Fate(Enum):
    """What hello's answer means for the outstanding writes of a channel."""

    RESEND = auto()  # send them again, in order, under the same numbers
    UNKNOWN = auto()  # the state behind the client changed: nobody can say any more


class ClientChannel(msgspec.Struct):
    """The client's half: numbers, what is outstanding, and what to do after a lost connection.

    ``floor`` is the lowest number still outstanding, ``next_seq`` where none is.
    """

    next_seq: int = 1
    floor: int = 1
    acked: int = 0
    generation: bytes | None = None
    outstanding: set[int] = msgspec.field(default_factory=set)
    abandoned: set[int] = msgspec.field(default_factory=set)

    @property
    def sent(self) -> int:
        """The highest number that was sent."""
        return self.next_seq - 1

    @property
    def span(self) -> int:
        """How many numbers lie from the floor to the highest that was sent."""
        return self.next_seq - self.floor

    def number(self) -> int:
        """The number of a write whose bytes enter the send buffer now."""
        seq = self.next_seq
        self.next_seq = seq + 1
        self.outstanding.add(seq)
        return seq

    def answered(self, seq: int) -> None:
        """The daemon decided this number and its answer arrived."""
        self._settle(seq)
        self.acked = max(self.acked, seq)

    def given_up(self, seq: int) -> None:
        """This number will not be sent again: the floor passes it.

        Only for one that the daemon refused, or whose connection is lost: what is still on its
        way on a living connection could be applied after a caller was told that it was not.
        """
        self._settle(seq)

    def _settle(self, seq: int) -> None:
        """A number is outstanding no more; the floor rises to the lowest that is."""
        outstanding = self.outstanding
        outstanding.discard(seq)
        self.abandoned.discard(seq)
        if seq == self.floor:
            seq += 1
            while seq < self.next_seq and seq not in outstanding:
                seq += 1
            self.floor = seq

    def abandon(self, seq: int) -> None:
        """Nobody waits for this number any more; its answer, if it comes, is swallowed.

        The floor does not pass it until it is answered or the connection is lost.
        """
        if seq in self.outstanding:
            self.abandoned.add(seq)

    def lost(self) -> None:
        """The connection is gone: abandoned numbers are given up."""
        for seq in list(self.abandoned):
            self._settle(seq)

    def welcomed(self, generation: bytes, known: bool, last: int) -> Fate:
        """Take hello's answer; the fate of everything outstanding.

        After ``UNKNOWN`` this channel must not be used again: a new one has a new client id.
        """
        unchanged = self.generation is None or self.generation == generation
        reaches = last >= self.acked if known else self.acked == 0
        self.generation = generation
        return Fate.RESEND if unchanged and reaches else Fate.UNKNOWN
