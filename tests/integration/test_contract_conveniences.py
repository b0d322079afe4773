"""Futures, flush, close, errors: the same on both clients."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

import sessiond_client
from sessiond_client import SessionDB
from tests.support.clients import KINDS, client, new_id
from tests.support.daemon import Daemon

# --- futures and flush ---------------------------------------------------------------------


def test_futures_are_stored_in_the_order_of_the_calls(db: SessionDB) -> None:
    name = new_id()
    db.create_session(name, "cli")
    futures = [db.append_message_nowait(name, "user", str(number)) for number in range(300)]
    assert db.message_count(name) == 300
    ids = [future.result() for future in futures]
    assert ids == sorted(set(ids))
    assert [each["content"] for each in db.get_messages(name)] == [str(n) for n in range(300)]
    found = db.get_session(name)
    assert found is not None
    assert found["message_count"] == 300


def test_a_future_has_the_error_and_its_neighbours_do_not(db: SessionDB) -> None:
    name, missing = new_id(), new_id()
    db.create_session(name, "cli")
    futures = [db.append_message_nowait(each, "user", "hello") for each in (name, missing, name)]
    db.flush()
    with pytest.raises(sqlite3.IntegrityError, match=missing):
        futures[1].result()
    assert futures[0].result() < futures[2].result()
    with pytest.raises(ValueError, match="timestamp"):
        db.append_message_nowait(name, "user", timestamp=float("nan"))


def test_flush_makes_everything_durable_for_everybody(db: SessionDB, daemon: Daemon) -> None:
    name = new_id()
    db.create_session(name, "cli")
    for number in range(50):
        db.append_message_nowait(name, "user", str(number))
        db.update_token_counts(name, 1, wait=False)
    db.flush()
    with SessionDB(**daemon.arguments, reads="daemon") as other:
        found = other.get_session(name)
    assert found is not None
    assert (found["message_count"], found["input_tokens"]) == (50, 50)


# --- failures of what nobody waited for ------------------------------------------------------


@pytest.mark.parametrize("by", ["flush", "append_message", "append_message_nowait"])
def test_a_failure_nobody_waited_for_is_raised_once_by_the_next_call(
    own_daemon: Daemon, by: str
) -> None:
    for kind in ("sync-auto", "uvloop-direct"):
        name = new_id()
        with client(kind, {**own_daemon.arguments, "timeout": 1.0}) as db:
            db.create_session(name, "cli")
            own_daemon.stop()
            db.update_token_counts(name, 5, wait=False)
            with pytest.raises(sqlite3.OperationalError):
                db.append_message(name, "user", "not sent")
            own_daemon.start()
            call: Callable[..., Any] = getattr(db, by)
            with pytest.raises(sessiond_client.OperationalError, match=name):
                call(*(() if by == "flush" else (name, "user", "not made")))
            db.flush()
            db.append_message(name, "user", "made")
            assert [each["content"] for each in db.get_messages(name)] == ["made"]


# --- close ---------------------------------------------------------------------------------


CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("create_session", ("x", "cli")),
    ("get_session", ("x",)),
    ("append_message", ("x", "user")),
    ("append_message_nowait", ("x", "user")),
    ("update_token_counts", ("x",)),
    ("search_messages", ("x",)),
    ("iter_export", ()),
    ("get_stats", ()),
    ("batch", ()),
    ("flush", ()),
    ("__enter__", ()),
]


@pytest.mark.parametrize("kind", KINDS)
def test_after_close_every_call_raises_and_close_does_nothing(daemon: Daemon, kind: str) -> None:
    with client(kind, daemon.arguments) as db:
        db.session_count()
        db.close()
        db.close()
        for name, arguments in CALLS:
            with pytest.raises(RuntimeError, match="is closed") as caught:
                getattr(db, name)(*arguments)
            assert isinstance(caught.value, sessiond_client.Closed)
        with pytest.raises(RuntimeError, match="is closed"):
            db.update_token_counts("x", wait=False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_was_never_used_closes(daemon: Daemon, kind: str) -> None:
    with client(kind, daemon.arguments):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_close_waits_for_what_is_on_its_way(daemon: Daemon, kind: str) -> None:
    name = new_id()
    with client(kind, daemon.arguments) as db:
        db.create_session(name, "cli")
        futures = [db.append_message_nowait(name, "user", str(n)) for n in range(100)]
        db.update_token_counts(name, 5, wait=False)
        db.close()
        assert len({future.result() for future in futures}) == 100
    with SessionDB(**daemon.arguments) as other:
        found = other.get_session(name)
    assert found is not None
    assert (found["message_count"], found["input_tokens"]) == (100, 5)


# --- errors, arguments, names --------------------------------------------------------------


def test_errors_have_a_code_and_say_whether_to_try_again(db: SessionDB) -> None:
    with pytest.raises(sessiond_client.SessiondError) as caught:
        db.append_message(new_id(), "user", "hello")
    assert (caught.value.code, caught.value.retryable) == ("integrity", False)


def test_no_daemon_is_an_operational_error_that_says_what_to_do(
    own_daemon: Daemon,
) -> None:
    own_daemon.stop()
    for kind in KINDS:
        with client(kind, {**own_daemon.arguments, "timeout": 0.1}) as db:
            with pytest.raises(sqlite3.OperationalError, match="sessiond serve") as caught:
                db.create_session(new_id(), "cli")
            assert isinstance(caught.value, sessiond_client.Unavailable)
            assert caught.value.retryable
    own_daemon.start()


def test_request_status_of_a_channel_nobody_knows(db: SessionDB) -> None:
    assert db.request_status(b"\0" * 16, 1) == "unknown"
    with pytest.raises(ValueError, match="seq"):
        db.request_status(b"\0" * 16, -1)


def test_db_path_is_public_and_resolved_when_the_object_is_made(
    db: SessionDB, daemon: Daemon
) -> None:
    assert db.db_path == daemon.database
    assert isinstance(db.db_path, type(daemon.database))


@pytest.mark.parametrize("made", [SessionDB, sessiond_client.AsyncSessionDB])
@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"reads": "sometimes"}, "reads"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 2000.0}, "1800"),
        ({"socket": "/tmp/" + "x" * 120}, "107"),
        ({"db_path": ":memory:"}, "file"),
    ],
)
def test_bad_arguments_are_refused_when_the_object_is_made(
    made: Any, named: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        made(**named)
