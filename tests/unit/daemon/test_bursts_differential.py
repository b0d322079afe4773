"""Bursts against the same requests one by one: no answer and no table tells which it was."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.sqlite.receipts import Channels
from sessiond.sqlite.store import Store
from sessiond.work import Appended, Entry, one_by_one
from sessiond_protocol.channel import ServerChannel
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.message import (
    Message,
    MessageAppend,
    MessageAppendMany,
    MessageClear,
    MessageReplace,
)
from sessiond_protocol.requests.session import SessionCreate, SessionDelete
from tests.unit.daemon.sending import CLIENT, OTHER, Peer, entries, frame, told
from tests.unit.daemon.stores import Opened, opened, together, works

PEERS = {CLIENT: Peer(CLIENT, "one"), OTHER: Peer(OTHER, "other")}

# --- what is sent ------------------------------------------------------------------------------

# Mostly what is applied as one: a failure has the whole batch looked at one by one.
_known = st.sampled_from("sst")
_session = st.sampled_from(("s",) * 14 + ("t",) * 12 + ("u", "nobody"))
_texts = st.sampled_from(
    ("plain", "plain", "größer", "中文 text", "日本語 テスト", "x\0y", "", None)
)
_plain = st.builds(
    lambda text, calls, when: Message(
        role="user", timestamp=when, content=text, tool_call_count=calls,
        tool_calls=f"[{', '.join(['1'] * calls)}]" if calls else None,
    ),
    _texts,
    st.sampled_from((0, 0, 0, 1, 3)),
    st.sampled_from((1.0,) * 6 + (0.5, 2.0)),
)  # fmt: skip
_rich = st.builds(
    lambda text, key, parts, when: Message(
        role="user", timestamp=when, content=text, message_key=key, content_value=parts
    ),
    st.sampled_from(("plain", "größer", "中文 text", None)),
    st.sampled_from((None, "k1", "k2")),
    st.sampled_from((None, '[{"type":"text","text":"x"}]')),
    # Not a number is NULL to SQLite: a row that passes every check but the table's own.
    st.sampled_from((1.0,) * 10 + (float("nan"),)),
)
_append = st.builds(MessageAppend, _session, st.one_of(_plain, _plain, _plain, _rich))
_rows = st.lists(_plain, max_size=3)
_other: st.SearchStrategy[Request[Any]] = st.one_of(
    st.builds(MessageAppendMany, _known, _rows),
    st.builds(MessageReplace, _known, _rows),
    st.builds(MessageClear, _known),
    st.builds(SessionDelete, st.sampled_from("tu")),
    st.builds(SessionCreate, st.sampled_from("ttu"), st.just("x"), st.just(1.0)),
    st.lists(_append, min_size=1, max_size=3).map(lambda them: together(*them)),
)
_simple: st.SearchStrategy[list[Request[Any]]] = st.lists(
    st.builds(MessageAppend, _known, _plain), min_size=1, max_size=9
)
_mixed: st.SearchStrategy[list[Request[Any]]] = st.lists(_append, min_size=1, max_size=9)
_appends = st.sampled_from((_simple,) * 6 + (_mixed,)).flatmap(lambda drawn: drawn)
_channel = st.sampled_from((CLIENT, CLIENT, OTHER))
_rises = st.lists(st.sampled_from((0,) * 12 + (1, 2, 9)), min_size=1, max_size=4)
_new = st.tuples(st.just("new"), _channel, _appends, _rises)
_new_other = st.tuples(st.just("new"), _channel, _other.map(lambda each: [each]), _rises)
# What was sent before, from so many numbers ago on, and what had not been sent yet.
_again = st.tuples(
    st.just("again"), _channel, _appends, _rises, st.integers(1, 12),
    st.sampled_from((False, False, True)),
)  # fmt: skip
# So many numbers left out, given up or lost.
_gap = st.tuples(
    st.just("gap"), _channel, _appends, _rises, st.integers(1, 3),
    st.sampled_from((True, True, False)),
)  # fmt: skip
_outside = st.tuples(st.just("outside"), _other)
_piece: st.SearchStrategy[Any] = st.sampled_from(
    (_new,) * 7 + (_again,) * 3 + (_new_other, _gap, _outside)
).flatmap(lambda drawn: drawn)
_batches = st.lists(
    st.tuples(st.lists(_piece, min_size=1, max_size=5), st.sampled_from((False,) * 5 + (True,))),
    min_size=1,
    max_size=7,
)


class Sender:
    """One channel's numbers, and what was sent under them."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.next = self.floor = 1
        self.sent: dict[int, Request[Any]] = {}
        self._msgid = 0

    def piece(
        self, kind: str, appends: list[Request[Any]], rises: list[int], *how: Any
    ) -> list[Entry]:
        first = self.next
        if kind == "again":
            back, altered = how
            first = max(1, self.next - back)
            if not altered:
                appends = [self.sent.get(n, each) for n, each in enumerate(appends, first)]
        elif kind == "gap":
            left_out, given_up = how
            first += left_out
            if given_up:
                self.floor = first
        made = []
        for index, request in enumerate(appends):
            seq = first + index
            # No client confirms what it has not sent; these may even confirm what is on its way.
            self.floor = max(self.floor, min(self.floor + rises[index % len(rises)], seq))
            self.sent.setdefault(seq, request)
            self._msgid += 1
            made.append(frame(request, self._msgid, seq, floor=self.floor))
        self.next = max(self.next, first + len(appends))
        return entries(made, self.peer)


# --- what must be the same ---------------------------------------------------------------------

_TABLES = (
    "SELECT * FROM messages", "SELECT * FROM sessions", "SELECT * FROM sessiond_message_keys",
    "SELECT * FROM sessiond_content", "SELECT * FROM sessiond_cjk",
    "SELECT client, last, floor FROM sessiond_clients",
    "SELECT client, last_seq FROM sessiond_receipts",
    "SELECT name, seq FROM sqlite_sequence", "SELECT session_id, 0 FROM sessiond_disorder",
)  # fmt: skip


def stored(file: Opened) -> str:
    return repr([file.rows(f"{each} ORDER BY 1, 2") for each in _TABLES])


def remembered(channel: ServerChannel) -> Any:
    """What a channel is and says of every number about which anything is known."""
    numbers = range(max(1, channel.floor - 2), channel.last + 3)
    found = [channel.receipt(seq) for seq in numbers]
    return (
        (channel.last, channel.floor, channel.known),
        [each and (each.seq, each.digest, each.error, bytes(each.result)) for each in found],
        [channel.status(seq) for seq in numbers],
    )


def channels(file: Opened) -> list[Any]:
    """The same of both channels; as memory has them, they are as the file has them."""
    made = []
    for client_id in PEERS:
        memory = file.store._channels.get(client_id)
        read = Channels(file.connection).get(client_id)
        read.floor = memory.floor  # it may rise without a decision, of which nothing is stored
        assert remembered(read) == remembered(memory)
        assert memory.answer_bytes >= sum(
            found.answer_bytes
            for seq in range(memory.floor, memory.last + 1)
            if (found := memory.receipt(seq)) is not None
        )
        made.append(remembered(memory))
    return made


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_batches)
def test_bursts_are_what_their_requests_are_one_by_one(
    batches: list[tuple[list[Any], bool]],
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(Path(folder) / "bursts.db") as bursts,
        opened(Path(folder) / "alone.db") as alone,
    ):
        for each in (bursts, alone):
            each.append("s", "one")
            each.append("t", "two")
        senders = {client_id: Sender(peer) for client_id, peer in PEERS.items()}
        for pieces, restart in batches:
            batch: list[Entry] = []
            for kind, *how in pieces:
                batch += (
                    works(how[0]) if kind == "outside" else senders[how[0]].piece(kind, *how[1:])
                )
            applied = bursts.store.apply(batch)
            singly = alone.store.apply(one_by_one(batch))
            assert told(applied) == told(singly)
            assert applied.events == singly.events
            assert applied.last_message_id == singly.last_message_id
            assert not any(isinstance(each, Appended) for each in singly.outcomes)
            assert stored(bursts) == stored(alone)
            assert channels(bursts) == channels(alone)
            for word in ("plain", "größer", "text"):
                assert bursts.found(word) == alone.found(word)
            for each in (bursts, alone):
                if restart:
                    each.store = Store(each.connection, lock_timeout=0.0, clock=each.clock)
            for client_id, sender in senders.items():
                sender.next = max(bursts.store._channels.get(client_id).last, sender.floor - 1) + 1
        assert bursts.check().sound
        assert alone.check().sound
