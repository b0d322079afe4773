"""Exit statuses are those of sysexits.h."""

import os

import pytest

from sessiond_client import _errors as errors
from sessiond_client.cli import exits
from sessiond_protocol.errors import Code, SessiondError


def test_every_code_that_callers_see_has_a_status() -> None:
    # A number out of order is sent again by the library, nobody else sees that.
    software = {Code.INTERNAL, Code.OUT_OF_ORDER}
    assert set(Code) - set(exits._STATUS) == software


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Unavailable("x"), os.EX_UNAVAILABLE),
        (errors.Timeout("x"), os.EX_TEMPFAIL),
        (errors.OutcomeUnknown("x"), os.EX_TEMPFAIL),
        (errors.Conflict("x"), os.EX_DATAERR),
        (errors.Unauthorized("x"), os.EX_NOPERM),
        (errors.DiskFull("x"), os.EX_IOERR),
        (SessiondError("x"), os.EX_SOFTWARE),
        (errors.Closed("x"), os.EX_SOFTWARE),
    ],
)
def test_statuses_of_errors(error: SessiondError, status: int) -> None:
    assert exits.status_of(error) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FileNotFoundError(2, "x"), os.EX_NOINPUT),
        (IsADirectoryError(21, "x"), os.EX_NOINPUT),
        (PermissionError(13, "x"), os.EX_NOPERM),
        (OSError(28, "x"), os.EX_IOERR),
    ],
)
def test_statuses_of_files(error: OSError, status: int) -> None:
    assert exits.status_of_file(error) == status
