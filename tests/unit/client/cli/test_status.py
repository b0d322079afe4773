"""What ``sessionctl status`` says of a daemon's statistics."""

import os
from typing import Any

import pytest

from sessiond_client.cli.commands import status


@pytest.mark.parametrize(
    ("last", "text"),
    [
        (None, "none was needed yet"),
        ({"busy": False, "log": 0, "checkpointed": 0}, "none was needed yet"),
        ({"busy": False, "log": 1, "checkpointed": 1}, "1 of 1 page moved"),
        (
            {"busy": True, "log": 2000, "checkpointed": 7},
            "7 of 2,000 pages moved, a reader holds up the rest",
        ),
    ],
)
def test_the_last_checkpoint(last: Any, text: str) -> None:
    assert status.checkpoint(last) == text


def test_a_client_whose_process_is_unknown() -> None:
    client = {
        "pid": None, "uid": 2**31 - 7, "program": "", "since": 0.0, "requests": 1234, "pending": 0,
    }  # fmt: skip
    assert status.client_row(client, 5.0) == ("?", str(2**31 - 7), "?", "just now", "1,234", "0")


def test_users_have_names() -> None:
    assert status.user_name(0) == "root"
    assert status.user_name(None) == "?"


def test_sizes_of_files_that_are_not_there(tmp_path: Any) -> None:
    (tmp_path / "a").write_bytes(b"123")
    assert status.file_sizes(os.fspath(tmp_path / "a")) == {"database_bytes": 3, "log_bytes": None}
