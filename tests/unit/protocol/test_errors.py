"""Codes on the wire and the exceptions they become."""

import sqlite3

import msgspec
import pytest

from sessiond_client import _errors as errors
from sessiond_protocol import wire
from sessiond_protocol.errors import DECIDED, REFUSALS, Code, Failure, SessiondError

CODES = {
    "invalid_params", "unknown_method", "integrity", "conflict", "not_found", "too_large",
    "overloaded", "timeout", "shutting_down", "disk_full", "database", "unauthorized", "internal",
    "out_of_order", "migrating",
}  # fmt: skip


def test_the_set_of_codes_is_closed() -> None:
    assert {code.value for code in Code} == CODES


def test_what_decides_and_what_refuses() -> None:
    assert set(map(str, DECIDED)) == {
        "integrity", "conflict", "not_found", "invalid_params", "timeout",
    }  # fmt: skip
    assert set(map(str, REFUSALS)) == {
        "disk_full", "database", "overloaded", "shutting_down", "out_of_order", "migrating",
    }  # fmt: skip


def test_a_failure_travels_as_three_elements() -> None:
    failure = Failure(Code.CONFLICT, "title taken", {"session_id": "a"})
    assert str(failure) == "title taken"
    assert failure.wire() == ("conflict", "title taken", {"session_id": "a"})
    frame = wire.decode_frame(wire.error_response(5, failure.wire()))
    assert isinstance(frame, wire.ResponseFrame)
    assert frame.error == failure.wire()
    assert msgspec.msgpack.decode(frame.result) is None


@pytest.mark.parametrize("code", sorted(CODES - {"internal", "out_of_order"}))
def test_every_code_has_an_exception_of_its_own(code: str) -> None:
    error = errors.from_wire((code, "text", {"x": 1}))
    assert type(error) is not SessiondError
    assert (error.code, error.message, error.data) == (code, "text", {"x": 1})
    assert str(error) == "text"


@pytest.mark.parametrize("code", ["internal", "from a newer daemon"])
def test_any_other_code_is_the_root_exception(code: str) -> None:
    error = errors.from_wire((code, "text", None))
    assert type(error) is SessiondError
    assert error.data == {}


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("invalid_params", ValueError),
        ("conflict", ValueError),
        ("too_large", ValueError),
        ("integrity", sqlite3.IntegrityError),
        ("database", sqlite3.OperationalError),
        ("disk_full", sqlite3.OperationalError),
        ("timeout", sqlite3.OperationalError),
        ("overloaded", sqlite3.OperationalError),
        ("not_found", KeyError),
        ("unauthorized", PermissionError),
    ],
)
def test_what_callers_of_the_old_store_catch_is_caught(code: str, caught: type[Exception]) -> None:
    error = errors.from_wire((code, "text", None))
    assert isinstance(error, caught)
    assert isinstance(error, SessiondError)


def test_only_what_may_pass_by_itself_is_worth_another_try() -> None:
    passing = {code for code in CODES if errors.from_wire((code, "", None)).retryable}
    assert passing == {"disk_full", "migrating", "overloaded", "shutting_down", "timeout"}
    assert errors.Unavailable("").retryable
    assert not errors.OutcomeUnknown("").retryable


def test_an_unknown_outcome_is_not_a_failure_that_may_be_repeated() -> None:
    error = errors.OutcomeUnknown("text", {"client_id": b"x", "seq": 5})
    assert isinstance(error, sqlite3.OperationalError)
    assert error.code == "outcome_unknown"
    assert error.data["seq"] == 5


def test_use_after_close_is_a_runtime_error() -> None:
    assert isinstance(errors.Closed("closed"), RuntimeError)
