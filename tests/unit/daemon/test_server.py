"""Hello on the event loop's side: who holds a channel, and what of it is still waiting."""

import asyncio
from typing import Any

from sessiond.inbox import Inbox
from sessiond.peers import Credentials, Policy
from sessiond.server import Served, Server
from sessiond.work import Work
from sessiond_protocol.requests.server import ServerHello
from sessiond_protocol.requests.session import SessionReopen

ONE, OTHER = b"1" * 16, b"2" * 16


class Peer:
    """A connection as far as hello looks at it."""

    def __init__(self, client_id: bytes | None, pid: int = 1) -> None:
        self.client_id = client_id
        self.peer = Credentials(pid, 0, frozenset())
        self.closed = False
        self.superseded = False

    def supersede(self) -> None:
        self.superseded = True


def make_server(inbox: Inbox) -> Server:
    policy = Policy(frozenset({0}), frozenset(), -1, -1)
    return Server(Served("/x.db", 1, 2, "0"), inbox, None, policy, 10, dict)  # type: ignore[arg-type]


def work(peer: Any, seq: int) -> Work:
    made = Work(peer, seq, SessionReopen(session_id="s"), 0.0, 1.0, 10, seq, 1, b"d")
    made.channel = peer.client_id
    return made


def greet(server: Server, peer: Any, client_id: bytes) -> None:
    server.greeted(peer, ServerHello(protocol=1, client_id=client_id))
    peer.client_id = client_id


def test_what_a_closed_connection_sent_is_taken_back_at_the_next_hello() -> None:
    async def run() -> None:
        inbox = Inbox(100, 10_000)
        server = make_server(inbox)
        older: Any = Peer(None)
        greet(server, older, ONE)
        inbox.put([work(older, 1), work(older, 2)])
        server.closed(older)
        newer: Any = Peer(None)
        greet(server, newer, ONE)
        assert inbox.take(100, 10_000) == []

    asyncio.run(run())


def test_a_living_connection_gives_its_channel_up_to_a_newer_one() -> None:
    async def run() -> None:
        inbox = Inbox(100, 10_000)
        server = make_server(inbox)
        older: Any = Peer(None)
        newer: Any = Peer(None)
        bystander: Any = Peer(None)
        greet(server, older, ONE)
        greet(server, bystander, OTHER)
        inbox.put([work(older, 1)])
        inbox.put([work(bystander, 1)])
        greet(server, newer, ONE)
        assert older.superseded
        assert [each.peer for each in inbox.take(100, 10_000)] == [bystander]

    asyncio.run(run())


def test_a_second_hello_leaves_the_first_channel() -> None:
    async def run() -> None:
        server = make_server(Inbox(100, 10_000))
        peer: Any = Peer(None)
        greet(server, peer, ONE)
        greet(server, peer, OTHER)
        assert server.connected() == {OTHER}
        server.closed(peer)
        assert server.connected() == frozenset()

    asyncio.run(run())
