"""What the blocking and the asyncio store have in common: their arguments and their plans."""

import time
from abc import abstractmethod
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from sessiond_client import _errors as errors
from sessiond_client._clock import clock as deadline_clock
from sessiond_client._requests import Plan as Call
from sessiond_client._store import Store
from sessiond_client.gateway.config import SessionConfig
from sessiond_client.gateway.entry import SessionEntry
from sessiond_client.gateway.mirror import Pace, rewrite_mirror
from sessiond_client.gateway.plans import RoutePlans
from sessiond_client.gateway.steps import Contended, Plan
from sessiond_client.gateway.transcript_plans import TranscriptPlans
from sessiond_client.gateway.transcripts import transcript_path
from sessiond_protocol.requests import Request

D = TypeVar("D", bound=Store)
T = TypeVar("T")


class GatewayStore(Generic[D]):
    """The base of both stores; ``D`` is the kind of client they talk through."""

    def __init__(
        self,
        sessions_dir: str | PathLike[str],
        config: SessionConfig,
        has_active_processes_fn: Callable[[str], Any] | None = None,
        on_auto_reset: Callable[[SessionEntry], Any] | None = None,
        *,
        db: D | None = None,
        transcripts: Literal["both", "db"] = "both",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if transcripts not in ("both", "db"):
            raise ValueError(f"transcripts must be 'both' or 'db', not {transcripts!r}")
        self.sessions_dir = Path(sessions_dir)
        self._owns_db = db is None
        self._db = self._new_db() if db is None else db
        self._routes = RoutePlans(
            config, clock, has_active_processes_fn, on_auto_reset, self._changed
        )
        self._transcripts = TranscriptPlans(self.sessions_dir, transcripts == "both", clock)
        self._pace = Pace()
        self._has_begun = False
        self._closed = False
        self._unreadable: dict[str, Any] = {}
        self._start()

    @property
    def config(self) -> SessionConfig:
        """The gateway's configuration; another one holds from the next call on."""
        return self._routes.config

    @config.setter
    def config(self, config: SessionConfig) -> None:
        self._routes.config = config

    @abstractmethod
    def _new_db(self) -> D:
        """The client of a store that was given none."""

    @abstractmethod
    def _start(self) -> None:
        """Make what the kind of store waits with."""

    @abstractmethod
    def _changed(self) -> None:
        """A route was changed: the mirror is to be written soon."""

    def get_transcript_path(self, session_id: str) -> Path:
        """Where the file with a session's transcript lies. It never waits for anything.

        Raises ``ValueError`` for an id with a path separator, ``..`` or NUL.
        """
        return transcript_path(self.sessions_dir, session_id)

    def _check_open(self) -> None:
        if self._closed:
            raise errors.Closed(f"this {type(self).__name__} is closed")

    def _beginning(self) -> Plan[None]:
        """What is done on first use."""
        legacy = yield from self._routes.take_over(self.sessions_dir)
        self._unreadable = legacy.unreadable
        self._has_begun = True

    def _mirroring(self) -> Plan[None]:
        self._pace.begin(deadline_clock())
        if not (yield from rewrite_mirror(self.sessions_dir, self._unreadable)):
            self._pace.failed()


class Patience:
    """How long a call goes on deciding again. The gateway's own callbacks do not count."""

    __slots__ = ("_deadline",)

    def __init__(self, seconds: float) -> None:
        self._deadline = deadline_clock() + seconds

    def pause(self) -> Callable[[], None]:
        """Stop counting, until the result is called."""
        began = deadline_clock()

        def go_on() -> None:
            self._deadline += deadline_clock() - began

        return go_on

    def check(self, step: Contended) -> None:
        if deadline_clock() > self._deadline:
            raise errors.Timeout(f"{step.what} was changed by others all the time")


def asked(request: Request[T]) -> Call[T]:
    """A client's call that is one request."""
    result: T = yield request
    return result
