"""What a connection needs of the daemon around it."""

from typing import Any, Protocol

from sessiond.work import Entry, Work
from sessiond_protocol.requests.server import ServerHello


class Hub(Protocol):
    """The server, as its connections see it; ``connection`` is the one that tells or asks it."""

    def opened(self, connection: Any) -> bool:
        """A connection was made; False refuses it."""
        ...

    def closed(self, connection: Any) -> None:
        """A connection is gone."""
        ...

    def submit_writes(self, works: list[Entry]) -> None:
        """Put requests into the writer's inbox."""
        ...

    def submit_read(self, work: Work) -> None:
        """Hand a read to the pool."""
        ...

    def answer_control(self, connection: Any, work: Work) -> Any:
        """Answer a request on the event loop, ``PARKED``: later. Raises :class:`Failure`."""
        ...

    def greeted(self, connection: Any, hello: ServerHello) -> None:
        """Hello arrived: take over the channel. Raises :class:`Failure`."""
        ...

    @property
    def congested(self) -> bool:
        """Whether the inbox is full, so that nobody should have more than one request in it."""
        ...

    def stalled(self, connection: Any) -> None:
        """A connection is not read because the inbox is full."""
        ...
