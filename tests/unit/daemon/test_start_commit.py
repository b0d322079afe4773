"""The first commit: durable, counted, and with a new generation when the file went back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from sessiond.sqlite import pragmas
from sessiond.sqlite.ask import rows, value
from sessiond.sqlite.opening import bring_up_to_date, open_database, start_commit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database lies."""
    return tmp_path / "state.db"


@pytest.fixture
def ready(path: Path) -> Iterator[apsw.Connection]:
    """A fresh file, brought up to date."""
    connection = open_database(path)
    bring_up_to_date(connection)
    yield connection
    connection.close()


def sessions_and_message(connection: apsw.Connection) -> None:
    """A session with messages 1 and 2."""
    connection.execute("INSERT INTO sessions (id, source, started_at) VALUES ('s', 'cli', 1)")
    for _ in range(2):
        connection.execute("INSERT INTO messages (session_id, role, timestamp) VALUES ('s','u',1)")


def test_a_new_file_has_a_generation_that_stays(ready: apsw.Connection) -> None:
    first = start_commit(ready)
    assert (len(first.generation), first.commits, first.starts) == (16, 1, 1)
    assert first.renewed
    second = start_commit(ready, known_commits=1)
    assert (second.generation, second.commits, second.starts) == (first.generation, 2, 2)
    assert not second.renewed
    assert rows(ready, "SELECT generation, commits, starts FROM sessiond_meta") == [
        (first.generation, 2, 2)
    ]


@pytest.mark.parametrize(("known", "renewed"), [(None, False), (4, False), (5, False), (6, True)])
def test_a_file_with_fewer_commits_than_known_went_back(
    ready: apsw.Connection, known: int | None, renewed: bool
) -> None:
    first = start_commit(ready)
    ready.execute("UPDATE sessiond_meta SET commits = 5")
    second = start_commit(ready, known)
    assert second.renewed is renewed
    assert (second.generation != first.generation) is renewed
    assert second.commits == max(5, known or 0) + 1
    assert not start_commit(ready, second.commits).renewed


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'messages'",
        "DELETE FROM sqlite_sequence",
    ],
)
def test_a_sequence_behind_the_ids_makes_a_new_generation_once(
    ready: apsw.Connection, statement: str
) -> None:
    sessions_and_message(ready)
    first = start_commit(ready)
    ready.execute(statement)
    second = start_commit(ready)
    assert second.renewed
    assert second.generation != first.generation
    assert not start_commit(ready).renewed
    assert rows(ready, "SELECT name, seq FROM sqlite_sequence") == [("messages", 2)]


def test_a_sequence_ahead_of_the_ids_is_right(ready: apsw.Connection) -> None:
    sessions_and_message(ready)
    start_commit(ready)
    ready.execute("DELETE FROM messages")
    assert not start_commit(ready).renewed


def test_a_busy_start_commit_can_be_repeated(ready: apsw.Connection, path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(apsw.BusyError):
        start_commit(ready)
    other.execute("COMMIT")
    other.close()
    assert start_commit(ready).starts == 1


class CountingFile(apsw.VFSFile):
    """A file that counts its syncs, by ending of its name."""

    syncs: dict[str, int] = {}  # noqa: RUF012 (shared by all files of a test)

    def __init__(self, vfs: str, name: Any, flags: list[int]) -> None:
        super().__init__(vfs, name, flags)
        text = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._ending = "log" if text.endswith("-wal") else "other"

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Count, then sync."""
        self.syncs[self._ending] = self.syncs.get(self._ending, 0) + 1
        super().xSync(flags)


class CountingVFS(apsw.VFS):
    """Opens files that count."""

    def __init__(self) -> None:
        super().__init__("counting", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> CountingFile:  # noqa: N802
        """A counting file."""
        return CountingFile("unix", name, flags)


def test_the_start_commit_syncs_the_log_even_where_commits_do_not(path: Path) -> None:
    vfs = CountingVFS()
    CountingFile.syncs = {}
    try:
        connection = open_database(path)
        bring_up_to_date(connection)
        sessions_and_message(connection)
        pragmas.set_durability(connection, full=False)
        CountingFile.syncs = {}
        connection.execute("UPDATE sessions SET title = 'x'")
        assert CountingFile.syncs == {}
        start_commit(connection)
        assert CountingFile.syncs == {"log": 1}
        assert value(connection, "PRAGMA synchronous") == 2
        connection.close()
    finally:
        vfs.unregister()
