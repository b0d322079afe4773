"""The verdict: a sound database passes, and each kind of harm is named."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sessiond_client.torture.journal import Answered, Began, Life, Refused
from sessiond_client.torture.verdict import Examination, sample_of_answered, search_for
from sessiond_client.torture.work import message_of, word_of

SEED = 7
SESSION = "c0-0"
STORED = 12
_SCHEMA = """
CREATE TABLE sessions (id TEXT PRIMARY KEY, message_count INTEGER, tool_call_count INTEGER,
                       input_tokens INTEGER);
CREATE TABLE messages (id INTEGER PRIMARY KEY, session_id TEXT REFERENCES sessions(id), role TEXT,
                       content TEXT, timestamp REAL, tool_calls TEXT);
CREATE VIRTUAL TABLE messages_fts USING fts5(content, content=messages, content_rowid=id);
CREATE TABLE sessiond_cjk (message_id INTEGER PRIMARY KEY, pairs TEXT);
CREATE VIRTUAL TABLE sessiond_cjk_fts USING fts5(pairs, content=sessiond_cjk,
                                                 content_rowid=message_id);
CREATE TABLE sessiond_meta (id INTEGER PRIMARY KEY, index_state TEXT NOT NULL DEFAULT '');
INSERT INTO sessiond_meta (id) VALUES (1);
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Messages 1 to 12 of one session under the ids 101 to 112; nine tokens."""
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO sessions VALUES (?, 0, 0, 9)", (SESSION,))
        for number in range(1, STORED + 1):
            insert(connection, 100 + number, number)
        connection.execute("INSERT INTO messages_fts (rowid, content)"
                           " SELECT id, content FROM messages")  # fmt: skip
        connection.commit()
    return path


def insert(connection: sqlite3.Connection, message_id: int, number: int) -> None:
    """A message with its counters."""
    message = message_of(SEED, SESSION, number)
    calls = message.get("tool_calls")
    connection.execute(
        "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)",
        (message_id, SESSION, message["role"], message["content"], message["timestamp"],
         json.dumps(calls) if calls else None),
    )  # fmt: skip
    connection.execute(
        "UPDATE sessions SET message_count = message_count + 1,"
        " tool_call_count = tool_call_count + ?",
        (len(calls or ()),),
    )


@pytest.fixture
def life() -> Life:
    """What the writer noted: single messages, a list, a refusal, tokens; all ended."""
    life = Life(0, 0, ended=True)
    for call in range(1, 10):
        life.take(Began(call, 0.0, SESSION, first=call, count=1))
        life.take(Answered(call, 0.01, [100 + call]))
    life.take(Began(10, 0.0, SESSION, first=10, count=3))
    life.take(Answered(10, 0.5, [110, 111, 112]))
    life.take(Began(11, 0.0, SESSION, first=13, count=2))
    life.take(Refused(11, 0.1, "disk_full", "no room", certain=True))
    life.take(Began(12, 0.0, SESSION, tokens=9))
    life.take(Answered(12, 0.01))
    return life


def violations(database: Path, *lives: Life, room_was_taken: bool = True) -> list[str]:
    """What is found."""
    return Examination(database, lives, SEED, room_was_taken=room_was_taken)().violations


def test_a_sound_database_passes(database: Path, life: Life) -> None:
    examination = Examination(database, [life], SEED, room_was_taken=True)
    verdict = examination()
    assert verdict.violations == []
    assert verdict.not_checked == []
    assert (verdict.calls, verdict.answered, verdict.open, verdict.messages) == (12, 11, 0, 12)
    assert dict(verdict.refused) == {"disk_full": 1}
    assert verdict.longest_wait == 0.5


_AGAIN = (
    "INSERT INTO messages SELECT {}, session_id, role, content, timestamp, tool_calls"
    " FROM messages WHERE id = {}"
)
_HARM: dict[str, tuple[str, str]] = {
    "lost": ("DELETE FROM messages WHERE id = 105", "message 5: answered as [105], stored as []"),
    "doubled": (_AGAIN.format(200, 105), "message 5 of c0-0 is stored 2 times"),
    "in part": ("DELETE FROM messages WHERE id = 111", "a part is stored, 2 of 3"),
    "another id": (
        "UPDATE messages SET id = 99 WHERE id = 101",
        "answered as [101], stored as [99]",
    ),
    "out of order": (
        "UPDATE messages SET id = 300 WHERE id = 103",
        "message 3 (id 300) stands after message 12",
    ),
    "other content": ("UPDATE messages SET content = content || '!' WHERE id = 102", "content is"),
    "other role": ("UPDATE messages SET role = 'x' WHERE id = 102", "role is 'x', not"),
    "from nowhere": ("UPDATE messages SET content = 'x' WHERE id = 102", "was never written"),
    "counter": ("UPDATE sessions SET message_count = 11", "message_count of c0-0 is 11, its rows"),
    "tool counter": ("UPDATE sessions SET tool_call_count = 99", "tool_call_count of c0-0 is 99"),
    "tokens lost": ("UPDATE sessions SET input_tokens = 8", "c0-0 has 8 tokens, 9 to 9"),
    "tokens twice": ("UPDATE sessions SET input_tokens = 18", "c0-0 has 18 tokens, 9 to 9"),
    "index": ("DELETE FROM messages_fts_docsize WHERE id = 104", "messages_fts does not equal"),
    "orphan": ("UPDATE messages SET session_id = 'c9-9'", "foreign_key_check"),
}


@pytest.mark.parametrize("what", _HARM)
def test_harm_is_named(database: Path, life: Life, what: str) -> None:
    statement, complaint = _HARM[what]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)
    found = violations(database, life)
    assert any(complaint in each for each in found), found


@pytest.mark.parametrize(
    ("of_now", "state"), [(False, "made anew"), (False, ""), (True, "made anew")]
)
def test_only_a_backup_may_be_of_a_moment_without_an_index(
    database: Path, life: Life, of_now: bool, state: str
) -> None:
    """And only if it says so: whoever restores it searches without one until it is made."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO sessiond_cjk VALUES (104, 'not in the index yet')")
        connection.execute("UPDATE sessiond_meta SET index_state = ?", (state,))
    verdict = Examination(database, [life], SEED, room_was_taken=True, of_now=of_now)()
    if state and not of_now:
        assert (verdict.violations, verdict.not_checked) == ([], ["the indexes: made anew"])
    else:
        (found,) = verdict.violations
        assert "sessiond_cjk_fts does not equal the content" in found


def test_what_was_refused_must_not_be_stored(database: Path, life: Life) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        insert(connection, 113, 13)
        insert(connection, 114, 14)
        connection.execute("INSERT INTO messages_fts (messages_fts) VALUES ('rebuild')")
    assert violations(database, life) == [
        "c0-0, messages 13 to 14: refused with disk_full, but stored as [113, 114]"
    ]


def _refused(code: str) -> Callable[[Life], None]:
    return lambda life: life.take(Refused(11, 2.0, code, "why", certain=True))


@pytest.mark.parametrize(
    ("change", "room_was_taken", "complaint"),
    [
        (_refused("disk_full"), False, "failed with disk_full after 2.0 s: why"),
        (_refused("outcome_unknown"), True, "failed with outcome_unknown"),
        (lambda life: life.refused.clear(), True, "messages 13 to 14: never answered"),
        (lambda life: life.wrong.append("a read saw nonsense"), True, "a read saw nonsense"),
    ],
)
def test_calls_that_end_badly_are_named(
    database: Path,
    life: Life,
    change: Callable[[Life], None],
    room_was_taken: bool,
    complaint: str,
) -> None:
    change(life)
    (found,) = violations(database, life, room_was_taken=room_was_taken)
    assert complaint in found


def test_a_life_that_was_killed_may_leave_calls_open(database: Path, life: Life) -> None:
    life.ended = False
    life.refused.clear()
    del life.answered[9], life.answered[12]
    assert violations(database, life) == []


def test_what_a_later_life_sent_again_may_stand_behind(database: Path, life: Life) -> None:
    """And it must be there once, under the id that the later life was told."""
    life.ended = False
    del life.answered[3]
    life.began[3] = Began(3, 0.0, SESSION, first=3, count=1, key="k3")
    later = Life(0, 1, ended=True)
    later.take(Began(1, 0.0, SESSION, first=3, count=1, key="k3"))
    later.take(Answered(1, 0.1, [300]))
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE messages SET id = 300 WHERE id = 103")
        connection.execute("INSERT INTO messages_fts (messages_fts) VALUES ('rebuild')")
    assert violations(database, life, later) == []
    assert any("stands after" in each for each in violations(database, life))


def test_many_violations_of_a_kind_are_counted(database: Path, life: Life) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM messages WHERE id < 200")
    found = violations(database, life)
    assert not any(each.startswith("… and ") for each in found)
    life.wrong += [f"wrong {number}" for number in range(25)]
    assert "… and 15 more like the last" in violations(database, life)


def test_a_sample_is_searched_for(life: Life) -> None:
    sample = sample_of_answered([life], 4)
    assert len(sample) >= 4

    def hits(word: str) -> Iterator[dict[str, int]]:
        for session, number, message_id in sample:
            if word == word_of(session, number) and message_id != 101:
                yield {"id": message_id}

    found = list(search_for(lambda word: list(hits(word)), word_of, sample))
    assert found == ["a search for message 1 of c0-0 (id 101) finds []"]
