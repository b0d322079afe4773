"""The schema, judged again whenever another program has changed it."""

import logging
from collections.abc import Callable
from typing import Final

import apsw

from sessiond.sqlite import pragmas
from sessiond.sqlite.judge import Mode, Verdict, look, schema_cookie
from sessiond_protocol.schema import SIDE_TABLES

log = logging.getLogger("sessiond.schema")

# A program that migrates the file does so in several transactions. What is missing in between
# is not ours to put back before it is done.
SETTLING_SECONDS: Final = 10.0


class SchemaWatch:
    """Knows what the schema is, and keeps the connection's triggers as that needs them.

    ``clock`` is monotonic, in seconds. Set ``suspended`` to keep triggers off although the
    index is another program's: it is damaged, and its triggers would refuse every message.
    """

    def __init__(self, connection: apsw.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._cookie = -1
        self._changed_at = clock()
        self._suspended = False
        self.verdict: Verdict
        self.refusal: str | None = None
        self._judge(schema_cookie(connection))

    def inspect(self) -> bool:
        """Ask whether the schema changed, and judge it if so. Inside a transaction, or not."""
        cookie = schema_cookie(self._connection)
        if cookie == self._cookie:
            return False
        before = self.verdict.mode
        self._judge(cookie)
        self._changed_at = self._clock()
        log.info("another program changed the schema: %s becomes %s", before, self.verdict.mode)
        if self.refusal is not None:
            log.error("%s", self.refusal)
        return True

    def own_change(self) -> None:
        """A transaction of ours that changed the schema was committed."""
        self._judge(schema_cookie(self._connection))

    def _judge(self, cookie: int) -> None:
        self.verdict = look(self._connection)
        self._cookie = cookie
        self.refusal = _refusal(self.verdict)
        self._set_triggers()

    @property
    def suspended(self) -> bool:
        """Triggers are kept off."""
        return self._suspended

    @suspended.setter
    def suspended(self, suspended: bool) -> None:
        self._suspended = suspended
        self._set_triggers()

    def _set_triggers(self) -> None:
        mode = Mode.OURS if self._suspended else self.verdict.mode
        pragmas.set_triggers(self._connection, mode)

    @property
    def settled(self) -> bool:
        """Nobody has changed the schema for a while."""
        return self._clock() - self._changed_at >= SETTLING_SECONDS


def _refusal(verdict: Verdict) -> str | None:
    """Why nothing can be written; None: it can."""
    missing = (*verdict.missing_columns, *verdict.missing_tables)
    kind = "column" if verdict.missing_columns else "table"
    if not missing:
        missing = tuple(name for name in verdict.missing_sides if name in SIDE_TABLES)
    if not missing:
        return None
    return (
        f"the database has lost the {kind} {', '.join(missing)} to another program:"
        " nothing can be written until it is back, reading goes on"
    )
