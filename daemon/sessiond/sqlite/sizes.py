"""How large the database is, looked up now and then, so that any thread may ask at any time."""

from collections.abc import Callable
from typing import Final

import apsw

from sessiond.sqlite.ask import value

_INTERVAL: Final = 5.0


class Sizes:
    """Counts of pages as of the last look. Only the writer thread looks.

    ``pages`` has ``page_size`` in bytes, ``page_count`` and ``free_pages``.
    """

    def __init__(self, connection: apsw.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._looked_at = float("-inf")
        self.pages = {"page_size": 0, "page_count": 0, "free_pages": 0}
        self.look()

    def look(self) -> None:
        """Look again, if the last look is some seconds old."""
        now = self._clock()
        if now - self._looked_at < _INTERVAL:
            return
        self._looked_at = now
        pragmas = ("page_size", "page_count", "freelist_count")
        try:
            found = [value(self._connection, f"PRAGMA {name}") for name in pragmas]
        except apsw.Error:
            return
        self.pages = dict(zip(self.pages, found, strict=True))
