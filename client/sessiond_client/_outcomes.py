"""What became of writes whose callers had gone when the answer came.

The daemon keeps an answer only until the client has heard it. A caller that was cancelled, or
whose time was up, may ask for it later: then it is known here.
"""

from typing import Final

# A caller that wants to know asks soon.
MOST_KEPT: Final = 1000


class Outcomes:
    """The latest answers that nobody waited for."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, int], str] = {}

    def note(self, client_id: bytes, seq: int, *, applied: bool) -> None:
        """Keep what became of a number."""
        self._kept[(client_id, seq)] = "applied" if applied else "failed"
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]

    def find(self, client_id: bytes, seq: int) -> str | None:
        """What became of a number, as ``request_status`` says it; None if it is not known here."""
        return self._kept.get((client_id, seq))
