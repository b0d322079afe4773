"""Requests that took long are named, with where the time went."""

from typing import Any

import pytest

from sessiond.database import Applied
from sessiond.logs import extras
from sessiond.slow_log import SlowLog
from sessiond.work import Work
from sessiond_protocol.requests import Request
from sessiond_protocol.requests.session import SessionGet
from tests.unit.daemon.stores import appending, works


class Peer:
    """A connection with a name."""

    closed = False
    client_id: bytes | None = None
    label = "gateway (pid 7, uid 1000)"


def applied(*batch: Work) -> Applied:
    return Applied(batch, [], [], 1, 1, 0.25, 0.5, 1.0)


def received(request: Request[Any], at: float) -> Work:
    (work,) = works(request)
    work.peer = Peer()
    work.received = at
    return work


def test_a_slow_batch_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    batch = [received(appending("s", "x"), at) for at in (10.0, 8.0, 11.9)]
    SlowLog(1.0).batch(applied(*batch), taken=10.2, committed=12.0)
    (line,) = caplog.records
    assert line.getMessage() == "slow write"
    assert extras(line) == {
        "method": "message.append",
        "seconds": 4.0,
        "waited": pytest.approx(2.2),
        "lock": 0.25,
        "applying": 0.5,
        "commit": 1.0,
        "batch": 3,
        "slow": 2,
        "client": Peer.label,
    }


def test_a_slow_read_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(1.0).read(received(SessionGet(session_id="s"), 10.0), started=11.5, answered=12.0)
    (line,) = caplog.records
    assert line.getMessage() == "slow read"
    assert extras(line) == {
        "method": "session.get", "seconds": 2.0, "waited": 1.5, "client": Peer.label,
    }  # fmt: skip


@pytest.mark.parametrize("threshold", [0.0, 2.5])
def test_what_is_quick_enough_is_not_said(
    threshold: float, caplog: pytest.LogCaptureFixture
) -> None:
    slow = SlowLog(threshold)
    slow.batch(applied(received(appending("s", "x"), 10.0)), taken=10.2, committed=12.0)
    slow.read(received(SessionGet(session_id="s"), 10.0), started=11.5, answered=12.0)
    assert caplog.records == []
