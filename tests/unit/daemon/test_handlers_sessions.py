"""Sessions: idempotent creation, ends that stay, titles, deletion, pruning."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond.sqlite.handlers import sessions as handlers
from sessiond.work import Outcome
from sessiond_protocol.requests.feed import Event
from sessiond_protocol.requests.message import MessageAppend
from sessiond_protocol.requests.session import (
    SessionCreate,
    SessionDelete,
    SessionEnd,
    SessionEnsure,
    SessionPruneSlice,
    SessionReopen,
    SessionSetSystemPrompt,
    SessionSetTitle,
)
from tests.unit.daemon.stores import Opened, appending, integrity, message, opened, works


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path / "state.db") as made:
        yield made


def create(session_id: str, source: str = "cli", at: float = 10.0, **more: Any) -> SessionCreate:
    return SessionCreate(session_id=session_id, source=source, started_at=at, **more)


def ensure(session_id: str, **more: Any) -> SessionEnsure:
    return SessionEnsure(session_id=session_id, started_at=20.0, **more)


def end(session_id: str, reason: str | None, at: float = 30.0) -> SessionEnd:
    return SessionEnd(session_id=session_id, end_reason=reason, ended_at=at)


def title(session_id: str, text: str | None) -> SessionSetTitle:
    return SessionSetTitle(session_id=session_id, title=text)


def row(file: Opened, session_id: str, columns: str) -> tuple[Any, ...]:
    [found] = file.rows(f"SELECT {columns} FROM sessions WHERE id = ?", session_id)
    return found


def error(outcome: Outcome) -> tuple[Any, ...]:
    assert outcome.error is not None
    return outcome.error


def events(file: Opened, *requests: Any) -> list[Event]:
    return file.store.apply(works(*requests)).events


# --- creating ----------------------------------------------------------------------------------


def test_a_session_is_stored_as_it_was_given(file: Opened) -> None:
    file.results(create("parent"))
    made = create(
        "s", "telegram", 12.5, model="m", model_config='{"t": 1}', system_prompt="be kind",
        user_id="u", parent_session_id="parent",
    )  # fmt: skip
    assert file.results(made) == ["s"]
    columns = "source, started_at, model, model_config, system_prompt, user_id, parent_session_id"
    assert row(file, "s", columns) == (
        "telegram", 12.5, "m", '{"t": 1}', "be kind", "u", "parent",
    )  # fmt: skip
    assert row(file, "s", "message_count, tool_call_count, input_tokens, ended_at") == (
        0,
        0,
        0,
        None,
    )


def test_creating_again_fills_what_is_unset_and_changes_nothing_else(file: Opened) -> None:
    file.results(create("p"), create("q"), create("s", "cli", 1.0, model="first"))
    again = create(
        "s", "telegram", 99.0, model="second", model_config="{}", system_prompt="late",
        user_id="u", parent_session_id="p",
    )  # fmt: skip
    assert file.results(again) == ["s"]
    columns = "source, started_at, model, model_config, system_prompt, user_id, parent_session_id"
    filled = ("cli", 1.0, "first", "{}", "late", "u", "p")
    assert row(file, "s", columns) == filled
    file.results(create("s", "x", 5.0, system_prompt="later", user_id="v", parent_session_id="q"))
    assert row(file, "s", columns) == filled


def test_a_full_call_after_a_bare_one_sets_the_source(file: Opened) -> None:
    file.results(ensure("s"), create("s", "telegram", model="m"))
    assert row(file, "s", "source, model, started_at") == ("telegram", "m", 20.0)


def test_a_parent_that_does_not_exist_is_named(file: Opened) -> None:
    [outcome] = file.apply(create("s", parent_session_id="nobody"))
    assert error(outcome) == (
        "integrity",
        "parent session 'nobody' of 's' does not exist",
        {"session_id": "nobody"},
    )
    assert file.value("SELECT count(*) FROM sessions") == 0


def test_a_parent_made_in_the_same_batch_is_there(file: Opened) -> None:
    assert file.results(create("p"), create("s", parent_session_id="p")) == ["p", "s"]


def test_ensuring_makes_a_bare_row_and_never_changes_one(file: Opened) -> None:
    assert file.results(ensure("s", model="m")) == [None]
    assert row(file, "s", "source, model, started_at") == ("unknown", "m", 20.0)
    file.results(ensure("s", source="cli", model="other"))
    assert row(file, "s", "source, model, started_at") == ("unknown", "m", 20.0)


def test_only_a_new_session_is_an_event(file: Opened) -> None:
    found = events(file, create("a"), create("a"), ensure("a"), ensure("b"))
    assert found == [Event("session_created", "a"), Event("session_created", "b")]


# --- ending ------------------------------------------------------------------------------------


def test_the_first_reason_stays_until_the_session_is_reopened(file: Opened) -> None:
    file.results(create("s"), end("s", "compression", 30.0), end("s", "cli_close", 40.0))
    assert row(file, "s", "ended_at, end_reason") == (30.0, "compression")
    file.results(SessionReopen(session_id="s"))
    assert row(file, "s", "ended_at, end_reason") == (None, None)
    file.results(end("s", "cli_close", 50.0))
    assert row(file, "s", "ended_at, end_reason") == (50.0, "cli_close")


def test_ending_without_a_reason_ends(file: Opened) -> None:
    file.results(create("s"), end("s", None), end("s", "late"))
    assert row(file, "s", "ended_at, end_reason") == (30.0, None)


def test_what_changed_nothing_is_no_event(file: Opened) -> None:
    reopen = SessionReopen(session_id="s")
    found = events(file, create("s"), end("s", "done"), end("s", "again"), reopen, reopen)
    assert found[1:] == [Event("session_ended", "s", text="done"), Event("session_reopened", "s")]


def test_updates_of_an_unknown_session_do_nothing(file: Opened) -> None:
    requests = [
        end("x", "done"),
        SessionReopen(session_id="x"),
        SessionSetSystemPrompt(session_id="x", system_prompt="p"),
    ]
    assert file.results(*requests) == [None, None, None]
    assert events(file, *requests) == []
    assert file.value("SELECT count(*) FROM sessions") == 0


def test_a_system_prompt_is_stored_and_cleared(file: Opened) -> None:
    file.results(create("s"), SessionSetSystemPrompt(session_id="s", system_prompt="p"))
    assert row(file, "s", "system_prompt") == ("p",)
    file.results(SessionSetSystemPrompt(session_id="s", system_prompt=None))
    assert row(file, "s", "system_prompt") == (None,)


# --- titles ------------------------------------------------------------------------------------


def test_a_title_is_set_kept_and_cleared(file: Opened) -> None:
    file.results(create("s"))
    assert file.results(title("s", "Trip"), title("s", "Trip")) == [True, True]
    assert row(file, "s", "title") == ("Trip",)
    assert file.results(title("s", None)) == [True]
    assert row(file, "s", "title") == (None,)


def test_a_title_of_another_session_is_a_conflict_that_names_it(file: Opened) -> None:
    file.results(create("a"), create("b"), title("a", "Trip"))
    [outcome] = file.apply(title("b", "Trip"))
    assert error(outcome) == (
        "conflict",
        "title 'Trip' is already in use by session 'a'",
        {"session_id": "a"},
    )
    assert row(file, "b", "title") == (None,)


def test_two_that_want_one_title_in_one_batch_get_it_once(file: Opened) -> None:
    outcomes = file.apply(create("a"), create("b"), title("a", "Trip"), title("b", "Trip"))
    assert [each.error and each.error[0] for each in outcomes] == [None, None, None, "conflict"]


def test_a_title_given_up_in_the_same_batch_is_free(file: Opened) -> None:
    file.results(create("a"), create("b"), title("a", "Trip"))
    assert file.results(title("a", None), title("b", "Trip")) == [True, True]


def test_titles_differ_by_case(file: Opened) -> None:
    file.results(create("a"), create("b"))
    assert file.results(title("a", "Trip"), title("b", "trip")) == [True, True]


@pytest.mark.parametrize("text", ["Trip", "new", None])
def test_an_unknown_session_has_no_title(file: Opened, text: str | None) -> None:
    file.results(create("a"), title("a", "Trip"))
    assert file.results(title("x", text)) == [False]
    assert events(file, title("x", text)) == []


# --- deleting ----------------------------------------------------------------------------------


def test_a_deleted_session_takes_everything_of_its_own_along(file: Opened) -> None:
    file.results(
        create("s"),
        create("other"),
        MessageAppend(session_id="s", message=message("apple 中文", "key")),
        appending("other", "apple 中文"),
    )
    assert file.results(SessionDelete(session_id="s")) == [True]
    assert file.rows("SELECT id FROM sessions") == [("other",)]
    assert file.rows("SELECT session_id FROM messages") == [("other",)]
    assert file.value("SELECT count(*) FROM sessiond_message_keys") == 0
    assert file.found("apple") == [2]
    integrity(file.connection)
    assert file.check().sound


def test_children_stay_as_orphans(file: Opened) -> None:
    file.results(
        create("p"), create("c", parent_session_id="p"), create("g", parent_session_id="c")
    )
    assert file.results(SessionDelete(session_id="p")) == [True]
    assert row(file, "c", "parent_session_id") == (None,)
    assert row(file, "g", "parent_session_id") == ("c",)


def test_deleting_what_is_not_there_is_false_and_no_event(file: Opened) -> None:
    assert file.results(SessionDelete(session_id="x")) == [False]
    assert events(
        file, create("s"), SessionDelete(session_id="s"), SessionDelete(session_id="s")
    ) == [
        Event("session_created", "s"),
        Event("session_deleted", "s"),
    ]


def test_appending_after_a_delete_in_the_same_batch_fails_alone(file: Opened) -> None:
    outcomes = file.apply(
        create("s"),
        appending("s", "one"),
        SessionDelete(session_id="s"),
        appending("s", "two"),
        create("s"),
        appending("s", "three"),
    )
    assert [each.error and each.error[0] for each in outcomes] == [
        None, None, None, "integrity", None, None,
    ]  # fmt: skip
    assert row(file, "s", "message_count") == (1,)
    assert file.found("three") == [2]
    assert file.check().sound


# --- pruning -----------------------------------------------------------------------------------


def prune(before: float, source: str | None = None, limit: int = 200) -> SessionPruneSlice:
    return SessionPruneSlice(before=before, source=source, limit=limit)


@pytest.fixture
def aged(file: Opened) -> Opened:
    """Sessions that started at 1 to 5; the second has not ended, the third is another source's."""
    for number in range(1, 6):
        made = create(f"s{number}", "cron" if number == 3 else "cli", float(number))
        file.results(made, appending(f"s{number}", f"text {number}"))
        if number != 2:
            file.results(end(f"s{number}", "done"))
    return file


def ids(file: Opened) -> list[str]:
    return [each for (each,) in file.rows("SELECT id FROM sessions ORDER BY id")]


def test_only_ended_sessions_before_the_cutoff_go(aged: Opened) -> None:
    assert aged.results(prune(4.0)) == [2]
    assert ids(aged) == ["s2", "s4", "s5"]
    assert aged.results(prune(4.0)) == [0]
    assert aged.check().sound


def test_only_one_source_goes(aged: Opened) -> None:
    assert aged.results(prune(100.0, "cron")) == [1]
    assert ids(aged) == ["s1", "s2", "s4", "s5"]


def test_the_oldest_go_first_in_slices(aged: Opened) -> None:
    assert aged.results(prune(100.0, limit=2)) == [2]
    assert ids(aged) == ["s2", "s4", "s5"]
    assert aged.results(prune(100.0, limit=2), prune(100.0, limit=2)) == [2, 0]


def test_children_of_pruned_sessions_stay(aged: Opened) -> None:
    aged.results(create("child", at=50.0, parent_session_id="s1"))
    aged.results(prune(2.0))
    assert row(aged, "child", "parent_session_id") == (None,)


def test_a_slice_ends_when_it_has_deleted_many_messages(
    aged: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "_SLICE_MESSAGES", 2)
    aged.results(appending("s1", "more"), appending("s1", "and more"))
    assert aged.results(prune(100.0)) == [1]
    assert aged.results(prune(100.0)) == [2]
    assert aged.results(prune(100.0)) == [1]
    assert aged.results(prune(100.0)) == [0]
    assert ids(aged) == ["s2"]
