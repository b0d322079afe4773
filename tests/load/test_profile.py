"""The profile of the daemon's parts: all of them are seen, and everything is stored."""

from pathlib import Path

import pytest

from tests.load.profile import Parts, Work, profile, rows

TEXT = [f"paragraph {number} about matters, naïve ones and 中文 too" for number in range(40)]
PARTS = {
    "receive, decode", "judge, apply", "insert rows", "index, counters", "receipts",
    "commit, sync", "checkpoint", "begin, around", "answers, statistics", "send",
}  # fmt: skip


def test_time_goes_to_the_innermost_part() -> None:
    times = iter([0.0, 1.0, 4.0, 5.0, 6.0, 10.0])
    parts = Parts(lambda: next(times))
    with parts.part("outer"):
        with parts.part("inner"):
            pass
        with parts.part("inner"):
            pass
    assert parts.seconds == {"inner": 4.0, "outer": 6.0}


@pytest.mark.parametrize(("clients", "requests", "messages"), [(8, 5, 1), (1, 1, 1), (1, 1, 20)])
def test_every_part_is_seen(tmp_path: Path, clients: int, requests: int, messages: int) -> None:
    work = Work("small", clients, requests, messages, batches=3)
    found = profile(work, tmp_path, TEXT)
    assert found.keys() == PARTS
    assert all(taken > 0 for taken in found.values())


def test_the_rows_tell_shares_of_the_whole() -> None:
    table = {row[0].strip(): row[1:] for row in rows([{"commit, sync": 30.0, "send": 10.0}])}
    assert table["commit, sync"] == ("30.00", "75%")
    assert table["all"] == ("40.00", "100%")
    assert table["SQLite and the kernel"] == ("30.00", "75%")
    assert table["Python"] == ("10.00", "25%")
