"""What the writers noted against what is stored. Everything here is looked at afterwards."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

from sessiond_client.torture.journal import Began, Life
from sessiond_client.torture.work import message_of, session_of

# With this code nothing was stored because nothing could be; nobody else is to blame.
_EXCUSED: Final = frozenset({"disk_full", "database"})
_MOST_OF_A_KIND: Final = 10


@dataclass(slots=True)
class Verdict:
    """Violations, and how much was compared to find them."""

    violations: list[str] = field(default_factory=list)
    calls: int = 0
    answered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    open: int = 0
    messages: int = 0
    longest_wait: float = 0.0
    not_checked: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as it lies in the database."""

    id: int
    number: int
    row: dict[str, Any]


class Examination:
    """Compares one database with the journals of all lives.

    The database is opened by the standard library's SQLite: no daemon serves it any more.
    ``room_was_taken``: calls may have been refused for want of room. Without ``of_now`` it is
    compared with a moment before the end: how calls ended is not asked, nor each letter.
    """

    def __init__(
        self,
        database: Path,
        lives: Sequence[Life],
        seed: int,
        *,
        room_was_taken: bool,
        of_now: bool = True,
    ) -> None:
        self._of_now = of_now
        self._database = database
        self._lives = lives
        self._seed = seed
        self._excused = _EXCUSED if room_was_taken else frozenset[str]()
        self._stored: dict[str, list[Stored]] = defaultdict(list)
        self.verdict = Verdict()

    def __call__(self) -> Verdict:
        """Look at everything."""
        with closing(sqlite3.connect(self._database, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            self._note(self._read_messages(connection))
            for check in (self._check_counters, self._check_tokens, self._check_files,
                          self._check_index):  # fmt: skip
                self._note(check(connection))
        for check_lives in (self._check_stored, self._check_order):
            self._note(check_lives())
        if self._of_now:
            for check_all in (self._check_seen, self._check_ends, self._check_content):
                self._note(check_all())
        return self.verdict

    def _note(self, found: Iterator[str]) -> None:
        some = list(islice(found, _MOST_OF_A_KIND))
        more = sum(1 for _ in found)
        self.verdict.violations += some
        if more:
            self.verdict.violations.append(f"… and {more} more like the last")

    # --- what is stored --------------------------------------------------------------------

    def _read_messages(self, connection: sqlite3.Connection) -> Iterator[str]:
        rows = connection.execute(
            "SELECT id, session_id, role, content, timestamp, tool_calls FROM messages ORDER BY id"
        )
        for row in rows:
            self.verdict.messages += 1
            session = row["session_id"]
            number = _number_in(session, row["content"])
            if number is None:
                yield f"message {row['id']} of {session} was never written: {row['content']!r:.80}"
            else:
                self._stored[session].append(Stored(row["id"], number, dict(row)))
        for session, stored in self._stored.items():
            for number, times in Counter(each.number for each in stored).items():
                if times > 1:
                    yield f"message {number} of {session} is stored {times} times"

    def _check_counters(self, connection: sqlite3.Connection) -> Iterator[str]:
        rows = connection.execute(
            "SELECT s.id, s.message_count, s.tool_call_count, count(m.id) AS messages,"
            " coalesce(sum(json_array_length(m.tool_calls)), 0) AS tool_calls"
            " FROM sessions s LEFT JOIN messages m ON m.session_id = s.id GROUP BY s.id"
        )
        for row in rows:
            for name, rows_say in (
                ("message_count", "messages"),
                ("tool_call_count", "tool_calls"),
            ):
                if row[name] != row[rows_say]:
                    yield f"{name} of {row['id']} is {row[name]}, its rows say {row[rows_say]}"

    def _check_tokens(self, connection: sqlite3.Connection) -> Iterator[str]:
        counted = dict(connection.execute("SELECT id, input_tokens FROM sessions").fetchall())
        for life in self._lives:
            session = session_of(life.client, life.number)
            least = sum(life.began[call].tokens for call in life.answered if call in life.began)
            unsure = [
                *life.open,
                *(life.began[c] for c, r in life.refused.items() if not r.certain),
            ]
            most = least + sum(began.tokens for began in unsure)
            found = counted.get(session) or 0
            if not least <= found <= most:
                yield f"{session} has {found} tokens, {least} to {most} were counted"

    def _check_files(self, connection: sqlite3.Connection) -> Iterator[str]:
        for (said,) in connection.execute("PRAGMA integrity_check"):
            if said != "ok":
                yield f"integrity_check says: {said}"
        for row in connection.execute("PRAGMA foreign_key_check"):
            yield f"foreign_key_check says: {tuple(row)}"

    def _check_index(self, connection: sqlite3.Connection) -> Iterator[str]:
        ((state,),) = connection.execute("SELECT index_state FROM sessiond_meta").fetchall()
        if state and not self._of_now:
            # A moment in which the indexes were made anew: the file says so, nobody asks them.
            self.verdict.not_checked.append(f"the indexes: {state}")
            return
        for index in ("messages_fts", "sessiond_cjk_fts"):
            try:
                connection.execute(
                    f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)"
                )
            except sqlite3.OperationalError as error:
                if "no such module" not in str(error):
                    yield f"{index} cannot be checked: {error}"
                else:
                    self.verdict.not_checked.append(f"{index}: this Python's SQLite has no FTS5")
            except sqlite3.DatabaseError as error:
                yield f"{index} does not equal the content: {error}"

    # --- what was promised -----------------------------------------------------------------

    def _check_seen(self) -> Iterator[str]:
        for life in self._lives:
            self._count(life)
            yield from life.wrong

    def _count(self, life: Life) -> None:
        verdict = self.verdict
        verdict.calls += len(life.began)
        verdict.answered += len(life.answered)
        verdict.refused.update(each.code for each in life.refused.values())
        verdict.open += sum(1 for _ in life.open)
        for ends in (life.answered.values(), life.refused.values()):
            waits = (each.seconds for each in ends)
            verdict.longest_wait = max(verdict.longest_wait, *waits, 0.0)

    def _check_stored(self) -> Iterator[str]:
        """Answered: stored once, under the ids that were told. Refused: not stored."""
        present = {
            session: {each.number: each.id for each in stored}
            for session, stored in self._stored.items()
        }
        for life in self._lives:
            for call, began in life.began.items():
                ids = present.get(began.session, {})
                found = [ids[number] for number in _numbers(began) if number in ids]
                answered, refused = life.answered.get(call), life.refused.get(call)
                if found and len(found) != began.count:
                    yield f"{_name(began)}: a part is stored, {len(found)} of {began.count}"
                if answered is not None and answered.ids != found:
                    yield f"{_name(began)}: answered as {answered.ids}, stored as {found}"
                if refused is not None and refused.certain and found and began.key is None:
                    yield f"{_name(began)}: refused with {refused.code}, but stored as {found}"

    def _check_ends(self) -> Iterator[str]:
        """Every call ends, and well unless there was no room."""
        for life in self._lives:
            for call, refused in life.refused.items():
                if refused.code not in self._excused:
                    yield (
                        f"{_name(life.began[call])}: failed with {refused.code} after"
                        f" {refused.seconds:.1f} s: {refused.message}"
                    )
            if life.ended:
                yield from (f"{_name(began)}: never answered" for began in life.open)

    def _check_order(self) -> Iterator[str]:
        """Ids rise with the numbers, but for what a later life has sent again."""
        own = {session_of(life.client, life.number): life for life in self._lives}
        again = {
            (began.session, began.first)
            for life in self._lives
            for began in life.began.values()
            if began.session != session_of(life.client, life.number)
        }
        for session, stored in self._stored.items():
            if session not in own:
                yield f"{session} was never made by a writer"
            line = [each for each in stored if (session, each.number) not in again]
            for one, next_one in pairwise(line):
                if next_one.number < one.number:
                    yield (
                        f"{session}: message {next_one.number} (id {next_one.id}) stands after"
                        f" message {one.number} (id {one.id})"
                    )

    def _check_content(self) -> Iterator[str]:
        for session, stored in self._stored.items():
            for each in stored:
                wanted = message_of(self._seed, session, each.number)
                for name in ("role", "content", "timestamp"):
                    if each.row[name] != wanted[name]:
                        yield (
                            f"{session}, message {each.number}: {name} is"
                            f" {each.row[name]!r:.80}, not {wanted[name]!r:.80}"
                        )


def _numbers(began: Began) -> range:
    return range(began.first, began.first + began.count)


def _name(began: Began) -> str:
    """A call, for people."""
    if not began.count:
        return f"{began.session}, {began.tokens} tokens"
    if began.count == 1:
        return f"{began.session}, message {began.first}"
    numbers = _numbers(began)
    return f"{began.session}, messages {numbers.start} to {numbers.stop - 1}"


def _number_in(session: str, content: Any) -> int | None:
    """The number in a message's first word."""
    head = f"w{session.replace('-', 'x')}x"
    first = content.split(" ", 1)[0] if isinstance(content, str) else ""
    number = first[len(head) :]
    return int(number) if first.startswith(head) and number.isdigit() else None


def sample_of_answered(lives: Sequence[Life], count: int) -> list[tuple[str, int, int]]:
    """Some answered messages, spread over all lives: session, number, id."""
    found = [
        (life.began[call].session, life.began[call].first + index, message_id)
        for life in lives
        for call, answered in life.answered.items()
        for index, message_id in enumerate(answered.ids)
    ]
    return found[:: max(1, len(found) // count)]


def search_for(
    search: Callable[[str], list[dict[str, Any]]],
    word_of: Callable[[str, int], str],
    sample: Sequence[tuple[str, int, int]],
) -> Iterator[str]:
    """Each message of a sample must be found by the word that only it holds."""
    for session, number, message_id in sample:
        hits = [hit["id"] for hit in search(word_of(session, number))]
        if hits != [message_id]:
            yield f"a search for message {number} of {session} (id {message_id}) finds {hits}"
