"""Transcripts in the database and in files: what is stored where, and what happens in between."""

import json
import logging
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sessiond_client import (
    DatabaseError,
    Integrity,
    OutcomeUnknown,
    SessiondError,
    TooLarge,
    Unavailable,
)
from sessiond_client.gateway import backlog
from sessiond_client.gateway.steps import FileWork, Plan, Step
from sessiond_client.gateway.transcript_plans import TranscriptPlans, as_stored
from sessiond_protocol.requests.message import MessageAppend, MessageAppendMany, MessageReplace
from tests.unit.client.gateway.table import Running, Table, carry_out

NOW = 1_770_000_000.0
DOWN = Unavailable("no daemon answers")


class Gateway:
    """One process's transcript plans over a shared table and folder."""

    def __init__(self, table: Table, folder: Path, *, keeps_files: bool = True) -> None:
        self.table = table
        self.plans = TranscriptPlans(folder, keeps_files, lambda: NOW)

    def run(self, plan: Plan[Any]) -> Any:
        return carry_out(plan, self.table)

    def append(self, content: Any, skip_db: bool = False, **fields: Any) -> None:
        message = {"role": "user", "content": content, **fields}
        self.run(self.plans.append("s", message, skip_db))

    def load(self) -> list[Any]:
        return [message["content"] for message in self.run(self.plans.load("s"))]


@pytest.fixture
def table() -> Table:
    table = Table()
    table.make("s")
    return table


@pytest.fixture
def gateway(table: Table, tmp_path: Path) -> Gateway:
    return Gateway(table, tmp_path)


def in_file(folder: Path) -> list[Any]:
    path = folder / "s.jsonl"
    if not path.exists():
        return []
    return [json.loads(line)["content"] for line in path.read_text().splitlines()]


def write_file(folder: Path, *contents: str) -> None:
    lines = [json.dumps({"role": "user", "content": content}) for content in contents]
    (folder / "s.jsonl").write_text("".join(f"{line}\n" for line in lines))


# --- append ------------------------------------------------------------------------------------


def test_a_message_is_stored_whole_and_written_unchanged(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    message = {
        "role": "assistant",
        "content": "hello",
        "tool_calls": [{"id": "1"}, {"id": "2"}],
        "reasoning": "because",
        "finish_reason": "stop",
        "token_count": 7,
        "timestamp": "2026-05-04T12:30:00",
        "of_no_column": {"kept": "in the file"},
    }
    gateway.run(gateway.plans.append("s", message, False))
    ((_, stored),) = table.messages["s"]
    assert (stored.role, stored.content, stored.reasoning) == ("assistant", "hello", "because")
    assert (stored.tool_call_count, stored.finish_reason, stored.token_count) == (2, "stop", 7)
    assert stored.timestamp == datetime(2026, 5, 4, 12, 30).timestamp()
    assert stored.message_key is None
    assert json.loads((tmp_path / "s.jsonl").read_text()) == message


@pytest.mark.parametrize(
    ("timestamp", "stored"),
    [
        (None, NOW),
        (12, 12.0),
        (12.5, 12.5),
        ("1970-01-01T00:00:07+00:00", 7.0),
        ("1970-01-01T00:00:07.5Z", 7.5),
    ],
)
def test_times_are_seconds_or_text(timestamp: Any, stored: float) -> None:
    assert as_stored({"role": "user", "timestamp": timestamp}, NOW).timestamp == stored


@pytest.mark.parametrize("timestamp", ["yesterday", "", [], float("nan")])
def test_what_is_no_time_is_refused_by_name(timestamp: Any) -> None:
    with pytest.raises(ValueError, match="timestamp must be"):
        as_stored({"role": "user", "timestamp": timestamp}, NOW)


def test_without_files_nothing_is_written(table: Table, tmp_path: Path) -> None:
    gateway = Gateway(table, tmp_path, keeps_files=False)
    gateway.append("a")
    gateway.append("nobody's", skip_db=True)
    assert gateway.load() == ["a"]
    gateway.run(gateway.plans.rewrite("s", [{"role": "user", "content": "b"}]))
    assert table.texts("s") == ["b"]
    assert list(tmp_path.iterdir()) == []


def test_without_files_an_id_need_not_be_a_name(table: Table, tmp_path: Path) -> None:
    table.make("../s")
    gateway = Gateway(table, tmp_path, keeps_files=False)
    gateway.run(gateway.plans.append("../s", {"role": "user", "content": "a"}, False))
    assert len(gateway.run(gateway.plans.load("../s"))) == 1


def test_an_id_that_leads_elsewhere_is_refused_before_anything_is_stored(
    gateway: Gateway, table: Table
) -> None:
    table.make("../s")
    for plan in (
        gateway.plans.append("../s", {"role": "user"}, False),
        gateway.plans.rewrite("../s", []),
        gateway.plans.load("../s"),
    ):
        with pytest.raises(ValueError, match="cannot name a file"):
            gateway.run(plan)
    assert table.messages == {}


def test_what_is_not_json_is_refused_before_anything_is_stored(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    with pytest.raises(TypeError):
        gateway.append("a", extra=b"bytes")
    with pytest.raises(TypeError):
        gateway.run(gateway.plans.rewrite("s", [{"role": "user", "extra": {1}}]))
    assert table.messages == {}
    assert list(tmp_path.iterdir()) == []


def test_what_the_agent_has_stored_is_only_written(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    gateway.append("a", skip_db=True)
    assert table.messages == {}
    assert in_file(tmp_path) == ["a"]


def broken_disk(gateway: Gateway, plan: Plan[Any]) -> Any:
    """Carry out a plan while no file can be written."""

    def answer(step: Step) -> Any:
        if isinstance(step, FileWork):
            raise OSError(28, "no space left on device")
        return gateway.table.answer(step)

    running = Running(plan)
    while not running.is_done:
        running.carry_out(answer)
    return running.result


def test_a_file_that_cannot_be_written_does_not_make_a_stored_message_fail(
    gateway: Gateway, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    broken_disk(gateway, gateway.plans.append("s", {"role": "user", "content": "a"}, False))
    assert table.texts("s") == ["a"]
    assert "a message that is stored cannot be added" in caplog.text


def test_a_message_that_could_be_put_nowhere_is_an_error(gateway: Gateway, table: Table) -> None:
    message = {"role": "user", "content": "a"}
    with pytest.raises(OSError, match="no space"):
        broken_disk(gateway, gateway.plans.append("s", message, True))
    table.outage = DOWN
    with pytest.raises(Unavailable):
        broken_disk(gateway, gateway.plans.append("s", message, False))
    table.outage = None
    assert gateway.load() == []


# --- outages -----------------------------------------------------------------------------------


def test_messages_of_an_outage_are_sent_first_and_in_order(
    gateway: Gateway, table: Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.append("a")
    table.outage = DOWN
    gateway.append("b")
    gateway.append("c")
    assert table.texts("s") == ["a"]
    assert in_file(tmp_path) == ["a", "b", "c"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    table.outage = None
    gateway.append("d")
    assert table.texts("s") == in_file(tmp_path) == ["a", "b", "c", "d"]
    table.outage = DOWN
    caplog.clear()
    gateway.append("e")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    table.outage = None
    assert gateway.load() == ["a", "b", "c", "d", "e"]
    assert table.marked == set()


def test_messages_of_an_outage_are_sent_at_the_end(gateway: Gateway, table: Table) -> None:
    table.make("t")
    table.outage = DOWN
    gateway.append("a")
    gateway.run(gateway.plans.append("t", {"role": "user", "content": "b"}, False))
    with pytest.raises(Unavailable):
        gateway.run(gateway.plans.send_all_waiting())
    table.outage = None
    gateway.run(gateway.plans.send_all_waiting())
    assert (table.texts("s"), table.texts("t")) == (["a"], ["b"])
    gateway.run(gateway.plans.send_all_waiting())
    assert (table.texts("s"), table.texts("t")) == (["a"], ["b"])


@pytest.mark.parametrize("outage", [Integrity("x"), DatabaseError("x")])
def test_an_error_that_is_not_retryable_is_raised_and_nothing_is_written(
    gateway: Gateway, table: Table, tmp_path: Path, outage: SessiondError
) -> None:
    table.outage = outage
    with pytest.raises(type(outage)):
        gateway.append("a")
    assert in_file(tmp_path) == []


def test_without_files_every_error_is_raised(table: Table, tmp_path: Path) -> None:
    table.outage = DOWN
    with pytest.raises(Unavailable):
        Gateway(table, tmp_path, keeps_files=False).append("a")


def test_during_an_outage_a_transcript_is_neither_loaded_nor_rewritten_without_its_end(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    table.outage = DOWN
    gateway.append("a")
    with pytest.raises(Unavailable):
        gateway.load()
    with pytest.raises(Unavailable):
        gateway.run(gateway.plans.rewrite("s", []))
    assert in_file(tmp_path) == ["a"]


def test_a_message_whose_outcome_is_unknown_goes_on_waiting_and_is_stored_once(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    table.outage = DOWN
    gateway.append("a")
    table.outage = None
    lost = Running(gateway.plans.append("s", {"role": "user", "content": "b"}, False))

    def answer_lost(step: Step) -> Any:
        answer = table.answer(step)
        if isinstance(step, MessageAppendMany):
            raise OutcomeUnknown("nobody knows")
        return answer

    while not lost.is_done:
        lost.carry_out(answer_lost)
    assert table.texts("s") == ["a"]
    assert gateway.load() == in_file(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("was_stored", [True, False])
@pytest.mark.parametrize("follows", ["append", "load", "end"])
def test_a_message_that_was_sent_without_an_answer_is_stored_once(
    gateway: Gateway, table: Table, tmp_path: Path, was_stored: bool, follows: str
) -> None:
    gateway.append("a", timestamp=1)

    def answer(step: Step) -> Any:
        if isinstance(step, MessageAppend):
            if was_stored:
                table.answer(step)
            raise OutcomeUnknown("nobody knows")
        return table.answer(step)

    running = Running(gateway.plans.append("s", {"role": "user", "content": "b"}, False))
    while not running.is_done:
        running.carry_out(answer)
    assert in_file(tmp_path) == ["a", "b"]
    if follows == "append":
        gateway.append("c")
    elif follows == "load":
        gateway.load()
    else:
        gateway.run(gateway.plans.send_all_waiting())
    assert table.texts("s") == in_file(tmp_path)


def test_without_files_an_unknown_outcome_is_the_callers_to_judge(
    table: Table, tmp_path: Path
) -> None:
    table.outage = OutcomeUnknown("nobody knows")
    with pytest.raises(OutcomeUnknown):
        Gateway(table, tmp_path, keeps_files=False).append("a")


def test_a_message_that_can_never_be_stored_does_not_stop_the_others(
    gateway: Gateway, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    table.outage = DOWN
    for content in ("a", "too large", "b"):
        gateway.append(content)
    table.outage = None

    def answer(step: Step) -> Any:
        if isinstance(step, MessageAppendMany) and any(
            message.content == "too large" for message in step.messages
        ):
            raise TooLarge("it is")
        return table.answer(step)

    running = Running(gateway.plans.append("s", {"role": "user", "content": "c"}, False))
    while not running.is_done:
        running.carry_out(answer)
    assert table.texts("s") == ["a", "b", "c"]
    assert "stays in its file alone" in caplog.text


def test_an_outage_does_not_fill_the_memory(
    gateway: Gateway, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_WAITING", 2)
    table.outage = DOWN
    gateway.append("a")
    gateway.append("b")
    with pytest.raises(Unavailable):
        gateway.append("c")
    assert in_file(tmp_path) == ["a", "b"]


def test_a_key_of_the_callers_own_is_kept(gateway: Gateway, table: Table) -> None:
    table.outage = DOWN
    gateway.append("a", message_key="m1")
    table.outage = None
    gateway.append("a", message_key="m1")
    assert [message.message_key for _, message in table.messages["s"]] == ["m1"]


# --- rewrite and load --------------------------------------------------------------------------


def test_a_rewrite_replaces_both_and_then_the_database_alone_counts(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    gateway.append("a")
    gateway.append("b")
    gateway.run(gateway.plans.rewrite("s", [{"role": "user", "content": "c"}]))
    assert table.texts("s") == in_file(tmp_path) == ["c"]
    write_file(tmp_path, "c", "undone")
    assert gateway.load() == ["c"]


def test_a_message_that_cannot_be_stored_is_named_and_nothing_is_replaced(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    gateway.append("a")
    messages = [{"role": "user"}, {"role": "user", "timestamp": "never"}]
    with pytest.raises(ValueError, match=r"messages\[1\]: timestamp"):
        gateway.run(gateway.plans.rewrite("s", messages))
    assert table.texts("s") == in_file(tmp_path) == ["a"]


def test_a_transcript_older_than_the_database_is_imported_once(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    write_file(tmp_path, "a", "b")
    del table.sessions["s"]
    assert gateway.load() == ["a", "b"]
    assert "s" in table.sessions
    write_file(tmp_path, "a", "b", "stale")
    assert gateway.load() == ["a", "b"]


def test_a_file_that_is_not_ahead_is_not_imported(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    gateway.append("a")
    gateway.append("b")
    write_file(tmp_path, "x", "y")
    assert gateway.load() == ["a", "b"]
    assert table.marked == set()


def test_lines_that_are_no_messages_are_skipped_and_named(
    gateway: Gateway, table: Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ['{"role": "user", "content": "a"}', "torn", '{"content": 5}', "{}"]
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    messages = gateway.run(gateway.plans.load("s"))
    assert [(each["role"], each["content"]) for each in messages] == [
        ("user", "a"),
        ("unknown", None),
    ]
    assert "line 2 cannot be read" in caplog.text
    assert "line 3 cannot be stored, skipped: content must be text" in caplog.text


def test_a_repeated_key_in_a_file_is_one_message(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    gateway.append("a", message_key="m1")
    gateway.append("a", message_key="m1")
    assert len(in_file(tmp_path)) == 2
    assert gateway.load() == ["a"]
    assert table.marked == set()


def test_a_file_too_large_to_import_is_named_and_the_database_counts(
    gateway: Gateway, table: Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.append("a")
    write_file(tmp_path, "a", "b")

    def answer(step: Step) -> Any:
        if isinstance(step, MessageReplace):
            raise TooLarge("it is")
        return table.answer(step)

    running = Running(gateway.plans.load("s"))
    while not running.is_done:
        running.carry_out(answer)
    assert [message["content"] for message in running.result] == ["a"]
    assert "its 2 messages cannot be imported" in caplog.text


def test_an_import_gives_way_to_what_was_appended_in_between(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    table.outage = DOWN
    gateway.append("a")
    table.outage = None
    loading = Running(Gateway(table, tmp_path).plans.load("s"))

    def answer(step: Step) -> Any:
        if isinstance(step, MessageReplace):
            gateway.append("b")
        return table.answer(step)

    while not loading.is_done:
        loading.carry_out(answer)
    assert [message["content"] for message in loading.result] == ["a", "b"]
    assert table.texts("s") == in_file(tmp_path) == ["a", "b"]
    assert table.marked == set()


def test_a_message_that_waits_and_was_imported_by_another_gateway_is_stored_once(
    gateway: Gateway, table: Table, tmp_path: Path
) -> None:
    table.outage = DOWN
    gateway.append("a")
    gateway.append("b")
    table.outage = None
    assert Gateway(table, tmp_path).load() == ["a", "b"]
    assert gateway.load() == ["a", "b"]


# --- many at once ------------------------------------------------------------------------------


class ManyGateways(RuleBasedStateMachine):
    """Gateways that append, load and are killed, while the database comes and goes.

    Each session has one gateway that writes into it at a time, as a conversation has; all of
    them load it.
    """

    def __init__(self) -> None:
        super().__init__()
        logging.disable(logging.WARNING)
        self.folder = Path(tempfile.mkdtemp())
        self.table = Table()
        self.table.make("s")
        self.gateways = [Gateway(self.table, self.folder) for _ in range(2)]
        self.said: list[str] = []  # what was taken on
        self.stored = 0
        self.loading: list[tuple[Running, int]] = []

    def teardown(self) -> None:
        for running, _ in self.loading:
            running.abandon(self.table.answer, after_the_step=False)
        shutil.rmtree(self.folder)
        logging.disable(logging.NOTSET)

    @rule(is_down=st.booleans())
    def the_daemon_comes_or_goes(self, is_down: bool) -> None:
        self.table.outage = DOWN if is_down else None

    @rule()
    def a_message_comes(self) -> None:
        content = f"m{len(self.said)}"
        self.said.append(content)
        self.gateways[0].append(content)

    @rule()
    def a_message_is_put_off(self) -> None:
        """The shortest outage: the file is ahead when the daemon is back."""
        outage, self.table.outage = self.table.outage, DOWN
        self.a_message_comes()
        self.table.outage = outage

    @rule(gateway=st.integers(0, 1))
    def start_loading(self, gateway: int) -> None:
        plan = self.gateways[gateway].plans.load("s")
        self.loading.append((Running(plan), len(self.said)))

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), steps=st.integers(1, 4))
    def load_on(self, data: st.DataObject, steps: int) -> None:
        place = data.draw(st.integers(0, len(self.loading) - 1))
        running, said = self.loading[place]
        for _ in range(steps):
            try:
                running.carry_out(self.table.answer)
            except Unavailable:
                del self.loading[place]
                return
            if running.is_done:
                del self.loading[place]
                self._loaded([message["content"] for message in running.result], said)
                return

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), after_the_step=st.booleans())
    def give_up_loading(self, data: st.DataObject, after_the_step: bool) -> None:
        place = data.draw(st.integers(0, len(self.loading) - 1))
        running, _ = self.loading.pop(place)
        running.abandon(self.table.answer, after_the_step=after_the_step)

    def _loaded(self, found: list[str], said_before: int) -> None:
        assert found == self.said[: len(found)]
        if not self.gateways[0].plans._backlog._waiting:
            assert len(found) >= min(said_before, len(self.table.texts("s")))

    @invariant()
    def what_was_said_is_stored_once_and_in_order(self) -> None:
        stored = self.table.texts("s")
        assert stored == self.said[: len(stored)]
        assert len(stored) >= self.stored, "what was stored is gone"
        self.stored = len(stored)
        assert in_file(self.folder) == self.said

    @precondition(lambda self: self.table.outage is None)
    @rule()
    def all_is_well(self) -> None:
        assert self.gateways[0].load() == self.said


TestManyGateways = ManyGateways.TestCase
TestManyGateways.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
