"""The peers of the benchmark do what they are measured at: every message stored, once, indexed."""

import contextlib
import functools
import itertools
import json
import os
import sqlite3
import subprocess
import sys
from array import array
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sessiond_client.bench.latency import Bounds, Notes, latency_ms
from sessiond_client.bench.loops import Store, one_at_a_time
from sessiond_client.bench.operations import (
    READS,
    WRITES,
    Append,
    Mix,
    Operation,
    Search,
    Work,
    messages_in,
    operations,
    worker_sessions,
)
from sessiond_client.bench.workers import Task, run_together
from sessiond_protocol.receipts import load_receipts
from tests.load.contests import RUNGS
from tests.load.peers import direct, hermes
from tests.load.peers.common import Unsupported
from tests.load.peers.loops import in_groups
from tests.support.hermes import environment, needs_hermes

ROOT = Path(__file__).resolve().parents[2]
READ_MIXES = [mix for mix in Mix if mix in READS]
PLAIN_PEERS = ("direct", "inprocess", "raw", "limit")
APPENDING_PEERS = (*PLAIN_PEERS, *RUNGS)


def run_peer(peer: str, database: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-m", f"tests.load.peers.{peer}"]
    return subprocess.run(
        [*command, "--database", str(database), *options],
        cwd=ROOT,
        env=os.environ | environment(database.parent),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def result_of(peer: str, database: Path, *options: str) -> dict[str, Any]:
    done = run_peer(peer, database, "--processes", "2", "--seconds", "60", *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def ask(database: Path, sql: str) -> Any:
    # A peer works in processes of its own that have ended: this is the only library in ours.
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchone()[0]


def assert_sound(database: Path, result: dict[str, Any]) -> None:
    assert result["failed"] == 0
    assert ask(database, "SELECT count(*) FROM messages") == result["stored_messages"]
    assert ask(database, "SELECT sum(message_count) FROM sessions") == result["stored_messages"]
    assert ask(database, "PRAGMA integrity_check") == "ok"
    assert ask(database, "PRAGMA journal_mode") == "wal"


def assert_indexed(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        # Rank 1 compares the index with the messages, row by row.
        connection.execute(
            "INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)"
        )


@pytest.mark.parametrize("peer", APPENDING_PEERS)
def test_a_counted_run_stores_every_message_once(tmp_path: Path, peer: str) -> None:
    database = tmp_path / "new.db"
    result = result_of(peer, database, "--count", "50", "--in-flight", "20", "--warm-up", "0.05")
    assert (result["operations"], result["messages"]) == (50, 50)
    assert result["stored_messages"] >= 50
    assert sum(worker["operations"] for worker in result["workers"]) == 50
    assert set(result["latency_ms"]) == {"p50", "p90", "p99", "p99.9", "max"}
    assert_sound(database, result)
    assert_indexed(database)


@pytest.mark.parametrize("peer", RUNGS)
def test_lists_through_every_rung(tmp_path: Path, peer: str) -> None:
    database = tmp_path / "new.db"
    options = ("--mix", "append_many", "--count", "4", "--in-flight", "2", "--warm-up", "0")
    result = result_of(peer, database, *options)
    assert result["messages"] == result["stored_messages"] == 80
    assert_sound(database, result)
    assert_indexed(database)


@pytest.mark.parametrize("mix", [Mix.APPEND, Mix.APPEND_MANY])
def test_what_is_kept_is_what_the_daemon_keeps(tmp_path: Path, mix: Mix) -> None:
    text = tmp_path / "text.json"
    text.write_text(json.dumps(["plain words", "中文"]), encoding="utf-8")
    options = ("--mix", mix.value, "--count", "40", "--in-flight", "8", "--warm-up", "0")
    for peer in ("keeping", "frames"):
        database = tmp_path / peer / "new.db"
        database.parent.mkdir()
        stored = result_of(peer, database, *options, "--text", str(text))["stored_messages"]
        pairs = ask(database, "SELECT count(*) FROM sessiond_cjk_fts WHERE pairs MATCH '中文'")
        assert pairs == ask(database, "SELECT count(*) FROM messages WHERE content = '中文'")
        assert ask(database, "SELECT cjk_cursor FROM sessiond_meta") == stored
        told = answered_last(database, number=20)  # of the two workers' twenty requests each
        assert len(told) == 2
        assert all(set(ids) <= set(range(1, stored + 1)) for ids in told)
        assert {len(ids) for ids in told} == {1 if mix is Mix.APPEND else 20}


def answered_last(database: Path, number: int) -> list[list[int]]:
    """The ids in the receipts of this number, of the clients whose last one it is."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT answers FROM sessiond_clients AS c JOIN sessiond_receipts AS r"
            " ON r.client = c.client AND r.last_seq = c.last WHERE c.last = ?",
            (number,),
        ).fetchall()
    found = [each for row in rows for each in load_receipts(row[0]) if each.seq == number]
    told = [msgspec.msgpack.decode(each.result) for each in found]
    return [ids if isinstance(ids, list) else [ids] for ids in told]


@pytest.mark.parametrize("peer", PLAIN_PEERS)
@pytest.mark.parametrize(
    ("mix", "count", "messages"),
    [(Mix.APPEND_MANY, 4, 80), (Mix.TOKENS, 10, 0), (Mix.TURN, 50, 40)],
)
def test_every_write_mix(tmp_path: Path, peer: str, mix: Mix, count: int, messages: int) -> None:
    database = tmp_path / "new.db"
    options = ("--mix", mix.value, "--count", str(count), "--in-flight", "20", "--warm-up", "0")
    result = result_of(peer, database, *options)
    assert result["messages"] == result["stored_messages"] == messages
    if messages:
        assert_sound(database, result)
    assert_indexed(database)
    assert (ask(database, "SELECT sum(input_tokens) FROM sessions") > 0) == (mix != Mix.APPEND_MANY)
    turns = 10 if mix is Mix.TURN else 0
    assert ask(database, "SELECT sum(tool_call_count) FROM sessions") == turns


@pytest.mark.parametrize("peer", ["direct", "raw"])
@pytest.mark.parametrize("mix", READ_MIXES)
def test_every_read_mix(tmp_path: Path, peer: str, mix: Mix) -> None:
    database = tmp_path / "new.db"
    options = ("--mix", mix.value, "--count", "10", "--stored", "450", "--warm-up", "0")
    result = result_of(peer, database, *options)
    assert (result["operations"], result["messages"]) == (10, 0)
    assert result["stored_messages"] == 450
    assert_sound(database, result)
    assert_indexed(database)
    full = ask(database, "SELECT count(*) FROM sessions WHERE message_count = 200")
    assert full == 2
    assert ask(database, "SELECT message_count FROM sessions WHERE id = 'before-2'") == 50


def test_one_process_whatever_was_asked(tmp_path: Path) -> None:
    assert result_of("raw", tmp_path / "new.db", "--count", "20")["processes"] == 1
    assert result_of("direct", tmp_path / "other.db", "--count", "20")["processes"] == 2


def test_a_timed_run_ends_by_itself(tmp_path: Path) -> None:
    done = run_peer("direct", tmp_path / "new.db", "--seconds", "0.3", "--warm-up", "0")
    result = json.loads(done.stdout)
    assert result["processes"] == 8
    assert result["seconds"] == 0.3
    assert result["operations"] > 0
    assert_sound(tmp_path / "new.db", result)


def test_the_text_may_be_given(tmp_path: Path) -> None:
    text = tmp_path / "text.json"
    text.write_text(json.dumps(["only this"]), encoding="utf-8")
    database = tmp_path / "new.db"
    result_of("direct", database, "--count", "6", "--warm-up", "0", "--text", str(text))
    assert ask(database, "SELECT count(*) FROM messages WHERE content = 'only this'") == 6


@pytest.mark.parametrize(
    ("peer", "mix", "why"),
    [
        ("inprocess", "search", "it batches writes"),
        ("limit", "transcript", "differs from raw in its writes only"),
        ("sketch", "turn", "appends and does nothing else"),
        ("hermes", "append_many", "appends one message per call"),
    ],
)
def test_what_a_peer_cannot_do_it_says(tmp_path: Path, peer: str, mix: str, why: str) -> None:
    done = run_peer(peer, tmp_path / "new.db", "--mix", mix)
    assert done.returncode == 3, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["peer"], answer["mix"]) == (peer, mix)
    assert why in answer["unsupported"]
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--processes", "0"), "0 is less than 1"),
        (("--seconds", "nan"), "nan is not within 0 and 600 seconds"),
        (("--mix", "transcript", "--stored", "0"), "--stored 0 leaves none"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, options: tuple[str, ...], complaint: str
) -> None:
    done = run_peer("direct", tmp_path / "new.db", *options)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_an_existing_file_is_never_touched(tmp_path: Path) -> None:
    database = tmp_path / "somebody.db"
    database.write_bytes(b"precious")
    done = run_peer("direct", database, "--count", "1")
    assert done.returncode == 2
    assert "exists" in done.stderr
    assert database.read_bytes() == b"precious"


@needs_hermes
@pytest.mark.parametrize(("mix", "messages"), [(Mix.APPEND, 50), (Mix.TURN, 40), (Mix.TOKENS, 0)])
def test_hermes_stores_every_message_once(tmp_path: Path, mix: Mix, messages: int) -> None:
    database = tmp_path / "new.db"
    result = result_of("hermes", database, "--mix", mix.value, "--count", "50", "--warm-up", "0")
    assert result["messages"] == result["stored_messages"] == messages
    assert "hermes-agent" in result["versions"]
    if messages:
        assert_sound(database, result)


@needs_hermes
@pytest.mark.parametrize("mix", READ_MIXES)
def test_hermes_reads_what_was_stored(tmp_path: Path, mix: Mix) -> None:
    database = tmp_path / "new.db"
    options = ("--mix", mix.value, "--count", "10", "--stored", "450", "--warm-up", "0")
    result = result_of("hermes", database, *options)
    assert (result["operations"], result["stored_messages"]) == (10, 450)
    assert_sound(database, result)


def test_hermes_is_missed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hermes_state", None)
    monkeypatch.setenv("HERMES_HOME", str(tmp_path))
    with pytest.raises(Unsupported, match=r"pip install --no-deps hermes-agent==\d"):
        hermes.open_session_db(tmp_path / "new.db")


def work(worker: int = 0, seed: int = 1) -> Work:
    text = [f"paragraph {number} about matters" for number in range(30)]
    return Work(seed, worker, text, ["before-0", "before-1"])


@pytest.mark.parametrize("mix", list(Mix))
def test_the_seed_decides_the_operations(mix: Mix) -> None:
    def first(seed: int) -> list[Operation]:
        return list(itertools.islice(operations(mix, work(seed=seed)), 40))

    assert first(1) == first(1)
    assert (first(1) == first(2)) == (mix is Mix.LIST)


def test_no_two_workers_write_to_one_session() -> None:
    written = {
        worker: {
            operation.message.session
            for operation in itertools.islice(operations(Mix.APPEND, work(worker)), 100)
            if isinstance(operation, Append)
        }
        for worker in (0, 1)
    }
    assert written == {worker: set(worker_sessions(worker)) for worker in (0, 1)}
    assert not written[0] & written[1]


def test_a_turn_is_four_messages_and_their_cost() -> None:
    turn = list(itertools.islice(operations(Mix.TURN, work()), 5))
    roles = [op.message.role for op in turn if isinstance(op, Append)]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert [messages_in(op) for op in turn] == [1, 1, 1, 1, 0]
    asked, result = turn[1], turn[2]
    assert isinstance(asked, Append)
    assert isinstance(result, Append)
    assert asked.message.tool_calls is not None
    assert asked.message.tool_calls[0]["id"] == result.message.tool_call_id


def test_transcripts_need_stored_sessions() -> None:
    with pytest.raises(ValueError, match="needs stored sessions"):
        operations(Mix.TRANSCRIPT, Work(1, 0, ["some text"], []))


def test_writes_and_reads_are_all_there_is() -> None:
    assert set(Mix) == WRITES | READS
    assert not WRITES & READS


def test_percentiles_by_nearest_rank() -> None:
    milliseconds = array("d", [number / 1000 for number in range(1000, 0, -1)])
    assert latency_ms(milliseconds) == {
        "p50": 500.0,
        "p90": 900.0,
        "p99": 990.0,
        "p99.9": 999.0,
        "max": 1000.0,
    }
    assert latency_ms(array("d", [0.002])) == dict.fromkeys(
        ("p50", "p90", "p99", "p99.9", "max"), 2.0
    )
    assert latency_ms([]) == {}


def test_a_late_answer_counts_as_latency_but_not_as_work() -> None:
    notes = Notes(Bounds(start=0.0, deadline=10.0, count=None))
    notes.answered(9.0, 3, at=9.5)
    notes.answered(9.5, 4, at=10.5)
    assert list(notes.latencies) == [0.5, 1.0]
    assert (notes.messages, notes.late, notes.late_messages) == (7, 1, 4)
    assert not notes.more()


class FakeStore:
    """Keeps what it is asked to do; fails on the operations it is told to."""

    def __init__(self, failing: frozenset[int] = frozenset()) -> None:
        self.calls: list[str] = []
        self._failing = failing
        self._performed = itertools.count()

    def begin(self) -> None:
        self.calls.append("begin")

    def perform(self, _operation: Operation) -> None:
        self.calls.append("perform")
        if next(self._performed) in self._failing:
            raise sqlite3.OperationalError("database is locked")

    def commit(self) -> None:
        self.calls.append("commit")

    def close(self) -> None:
        self.calls.append("close")


def counted(count: int) -> Notes:
    return Notes(Bounds(start=0.0, deadline=float("inf"), count=count))


def test_groups_are_answered_by_their_commit() -> None:
    store, notes = FakeStore(), counted(5)
    in_groups(3, store, itertools.repeat(Search("word")), notes)
    group = ["begin", "perform", "perform", "perform", "commit"]
    assert store.calls == [*group, "begin", "perform", "perform", "commit"]
    assert len(notes.latencies) == 5


def test_a_group_is_measured_in_messages() -> None:
    store, notes = FakeStore(), counted(4)
    in_groups(40, store, operations(Mix.APPEND_MANY, work()), notes)
    assert store.calls == ["begin", "perform", "perform", "commit"] * 2
    assert notes.messages == 80


def test_a_failed_operation_is_noted_and_the_work_goes_on() -> None:
    store, notes = FakeStore(failing=frozenset({1})), counted(3)
    one_at_a_time(store, itertools.repeat(Search("word")), notes)
    assert (len(notes.latencies), notes.failed) == (2, 1)
    assert notes.first_failure == "OperationalError: database is locked"


def test_direct_undoes_what_failed(tmp_path: Path) -> None:
    with contextlib.closing(direct.connect(tmp_path / "new.db")) as connection:
        connection.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)")

        def twice() -> None:
            connection.execute("INSERT INTO t VALUES (1)")
            connection.execute("INSERT INTO t VALUES (1)")

        with pytest.raises(sqlite3.IntegrityError):
            direct.in_transaction(connection, twice)
        assert not connection.in_transaction
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def open_nothing(folder: Path, worker: int) -> Store:
    (folder / str(worker)).touch()
    if worker == 1:
        raise SystemExit(1)
    return FakeStore()


@pytest.fixture
def _no_tracker_stays() -> Iterator[None]:
    """multiprocessing keeps a process that watches for leaks until the program's end."""
    yield
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_no_tracker_stays")
def test_a_worker_that_dies_ends_the_run(tmp_path: Path) -> None:
    opened = functools.partial(open_nothing, tmp_path)
    tasks = [
        Task(opened, one_at_a_time, Mix.LIST, work(worker), 30.0, None, 0.0) for worker in (0, 1)
    ]
    with pytest.raises(RuntimeError, match="worker 1 ended without a report"):
        run_together(tasks)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}
