"""What the blocking and the asyncio client have in common: their arguments, open or closed."""

import os
from pathlib import Path
from typing import Final, Literal, NoReturn, SupportsIndex

from sessiond_client import _errors as errors
from sessiond_client import _fork
from sessiond_client._merging import Merges
from sessiond_client._place import Place, daemon_settings
from sessiond_protocol import paths
from sessiond_protocol.errors import SessiondError

Reads = Literal["direct", "daemon", "auto"]

MAX_TIMEOUT: Final = 1800.0

# How long a token increment may wait for others to join it.
MERGE_SECONDS: Final = 0.05

# How long the end of the program waits for what was not sent or not answered yet.
EXIT_SECONDS: Final = 5.0


class Store:
    """The base of both clients: where the database is and how this object reads it."""

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        pool_size: int | None = None,
        batch_size: int | None = None,
        batch_wait_ms: float | None = None,
        enable_batching: bool = True,
        *,
        socket: str | os.PathLike[str] | None = None,
        reads: Reads = "auto",
        autostart: bool = True,
        timeout: float = 30.0,
    ) -> None:
        if reads not in ("direct", "daemon", "auto"):
            raise ValueError(f"reads must be 'direct', 'daemon' or 'auto', not {reads!r}")
        if not 0 < timeout <= MAX_TIMEOUT:
            raise ValueError(
                f"timeout must be over 0 and at most {MAX_TIMEOUT:g} seconds, not {timeout!r}"
            )
        self.db_path = Path(paths.resolve_database(db_path, os.environ))
        self._reads: Reads = reads
        self._timeout = timeout
        self._closed = False
        self._place = Place(
            os.path.realpath(self.db_path),
            None if socket is None else os.fspath(socket),
            autostart,
            daemon_settings(pool_size, batch_size, batch_wait_ms, enable_batching),
        )
        paths.chosen_socket(self._place.socket, os.environ)  # raises for one that cannot be
        self._begin()

    def _begin(self) -> None:
        """Start with nothing on its way; a forked child does so again."""
        self._era = _fork.era
        self._merges = Merges()
        self._failure: SessiondError | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.db_path} {'closed' if self._closed else 'open'}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """An object for another process is made there, from ``db_path``."""
        raise TypeError(
            f"a {type(self).__name__} can be neither pickled nor copied: make one from its db_path"
        )

    def _check_open(self) -> None:
        if self._closed:
            raise errors.Closed(f"this {type(self).__name__} is closed")

    def _failed(self, what: str, error: BaseException | None) -> None:
        """Keep the first failure of a write that nobody waited for."""
        if isinstance(error, SessiondError) and self._failure is None:
            message = f"{what} failed after it was handed over: {error}"
            self._failure = type(error)(message, error.data)
            self._failure.__cause__ = error

    def _raise_failure(self, note: str = "the call that raised this was not made") -> None:
        """Raise what :meth:`_failed` kept, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            failure.add_note(note)
            raise failure
