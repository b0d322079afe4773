"""The pages over HTTP, and a listener that nobody can hold up."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sessiond.metrics import SILENT_SECONDS, MetricsListener, Pages, Unanswered

HEALTHY: dict[str, Any] = {"state": "serving", "writable": True, "connections": 2}


class Daemon:
    """What the pages ask."""

    def __init__(self) -> None:
        self.stats: Mapping[str, Any] | None = HEALTHY
        self.silence = 0.0

    def statistics(self) -> Mapping[str, Any]:
        if self.stats is None:
            raise Unanswered
        return self.stats


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def pages(daemon: Daemon) -> Pages:
    return Pages(daemon.statistics, lambda: daemon.silence)


def test_a_healthy_daemon(pages: Pages) -> None:
    assert pages.page("/healthz") == ("200 OK", "text/plain; charset=utf-8", b"alive\n")
    assert pages.page("/readyz")[::2] == ("200 OK", b"ready\n")
    status, kind, body = pages.page("/metrics")
    assert status == "200 OK"
    assert kind.startswith("text/plain; version=")
    assert b"\nsessiond_connections 2.0\n" in body
    assert pages.page("/")[0] == "404 Not Found"


@pytest.mark.parametrize(
    ("stats", "reason"),
    [
        ({"state": "migrating"}, b"the daemon is migrating\n"),
        ({"state": "stopping"}, b"the daemon is stopping\n"),
        ({**HEALTHY, "writable": False, "reason": "why"}, b"writes are refused: why\n"),
    ],
)
def test_alive_but_not_ready(
    stats: dict[str, Any], reason: bytes, daemon: Daemon, pages: Pages
) -> None:
    daemon.stats = stats
    daemon.silence = 1000.0 if stats["state"] != "serving" else 0.0
    assert pages.page("/healthz")[0] == "200 OK"
    assert pages.page("/readyz")[::2] == ("503 Service Unavailable", reason)


def test_a_writer_that_is_silent_is_not_alive(daemon: Daemon, pages: Pages) -> None:
    daemon.silence = SILENT_SECONDS + 1
    status, _, body = pages.page("/healthz")
    assert (status, body) == (
        "503 Service Unavailable",
        b"the writer was not heard of for 181 s\n",
    )


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_an_event_loop_that_does_not_answer(path: str, daemon: Daemon, pages: Pages) -> None:
    daemon.stats = None
    assert pages.page(path)[::2] == (
        "503 Service Unavailable",
        b"the event loop does not answer\n",
    )


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest, pages: Pages) -> Iterator[MetricsListener]:
    try:
        made = MetricsListener(request.param, 0, pages)
    except OSError as error:
        pytest.skip(f"{request.param}: {error.strerror}")
    yield made
    made.close()


def url(listener: MetricsListener, path: str) -> str:
    host, port = listener.address
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"


def test_pages_are_served(listener: MetricsListener) -> None:
    with urllib.request.urlopen(url(listener, "/readyz"), timeout=10) as answer:
        assert answer.read() == b"ready\n"
    asked = urllib.request.Request(url(listener, "/metrics"), method="HEAD")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.read() == b""
        assert int(answer.headers["Content-Length"]) > 100


@pytest.mark.parametrize(
    ("path", "data", "status"), [("/nothing", None, 404), ("/metrics", b"x", 405)]
)
def test_what_is_not_there(
    path: str, data: bytes | None, status: int, listener: MetricsListener
) -> None:
    with pytest.raises(urllib.error.HTTPError) as found:
        urllib.request.urlopen(url(listener, path), data, timeout=10)
    assert found.value.code == status
    found.value.close()


def test_who_says_nothing_holds_up_nobody(listener: MetricsListener) -> None:
    silent = [socket.create_connection(listener.address, 10) for _ in range(7)]
    with urllib.request.urlopen(url(listener, "/healthz"), timeout=10) as answer:
        assert answer.read() == b"alive\n"
    for each in silent:
        each.close()


def test_too_many_at_once_are_sent_away(listener: MetricsListener) -> None:
    crowd = [socket.create_connection(listener.address, 10) for _ in range(9)]
    assert crowd[-1].recv(1) == b""
    for each in crowd:
        each.close()
