"""The one row of ``sessiond_meta``, as of the last commit and as the next one will leave it."""

import apsw
import msgspec

from sessiond.sqlite.ask import rows


class MetaRow(msgspec.Struct):
    """The columns of the row."""

    generation: bytes
    commits: int
    index_state: str
    rebuild_cursor: int | None
    cjk_cursor: int


class Meta:
    """Keeps the row in memory, so that a batch writes it with one statement and never reads it.

    ``committed`` is what the file holds; ``row`` may be changed between :meth:`begin` and
    :meth:`write`, inside the transaction. A transaction that is rolled back changes nothing.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.committed: MetaRow
        self.row: MetaRow
        self.load()

    def load(self) -> None:
        """Read the row: at the start, and after something else than a batch has changed it."""
        found = rows(
            self._connection,
            "SELECT generation, commits, index_state, rebuild_cursor, cjk_cursor"
            " FROM sessiond_meta WHERE id = 1",
        )
        self.committed = self.row = MetaRow(*found[0])

    def begin(self) -> None:
        """A transaction was opened."""
        self.row = msgspec.structs.replace(self.committed)

    def write(self) -> None:
        """Write the row, with one commit more. The last statement before the commit."""
        row = self.row
        row.commits += 1
        self._connection.execute(
            "UPDATE sessiond_meta SET commits = commits + 1, index_state = ?,"
            " rebuild_cursor = ?, cjk_cursor = ? WHERE id = 1",
            (row.index_state, row.rebuild_cursor, row.cjk_cursor),
        )

    def absorb(self) -> None:
        """The transaction was committed."""
        self.committed = self.row
