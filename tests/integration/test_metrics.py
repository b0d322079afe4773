"""What a daemon tells of itself: over HTTP, on the command line, in its log."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond_client import SessionDB
from tests.support.daemon import Daemon, running


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    (folder / "settings.toml").write_text('slow_request = "1h"\n')
    yield from running(
        folder, "--metrics-listen", f"127.0.0.1:{port}", "--config", str(folder / "settings.toml")
    )


def over_http(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        body: bytes = answer.read()
        return body.decode()


def figure(text: str, name: str) -> float:
    (found,) = re.findall(rf"(?m)^{re.escape(name)} (\S+)$", text)
    return float(found)


def test_what_was_done_is_counted(daemon: Daemon, port: int) -> None:
    with SessionDB(**daemon.arguments) as db:
        before = over_http(port, "/metrics")
        db.create_session("counted", source="cli")
        db.append_messages("counted", [{"role": "user", "content": "x"}] * 3)
        db.close()
    after = over_http(port, "/metrics")

    def rise(name: str) -> float:
        return figure(after, name) - figure(before, name)

    assert rise('sessiond_writes_total{outcome="applied"}') == 2
    assert rise("sessiond_commits") >= 2
    assert figure(after, 'sessiond_request_seconds_count{method="session.create"}') == 1
    assert figure(after, "sessiond_inbox_requests") == 0
    assert 10e6 < figure(after, "process_resident_memory_bytes") < 1e9
    assert figure(after, "sessiond_log_bytes") > 0
    assert over_http(port, "/readyz") == "ready\n"
    assert over_http(port, "/healthz") == "alive\n"


def test_the_command_prints_the_same(daemon: Daemon, port: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sessiond_client.cli", "metrics", "--database",
         str(daemon.database)],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip

    def names(text: str) -> list[str]:
        return [line.split(" ")[0] for line in text.splitlines() if not line.startswith("#")]

    assert names(done.stdout) == names(over_http(port, "/metrics"))


def test_a_slow_request_is_logged_once_it_is_asked_for(daemon: Daemon) -> None:
    with SessionDB(**daemon.arguments) as db:
        db.create_session("slow", source="cli")
        assert "slow" not in daemon.log
        settings = Path(daemon.folder / "settings.toml")
        settings.write_text('slow_request = "0.001ms"\n')
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        while "settings read again" not in daemon.log:
            db.get_session("slow")
        db.append_message("slow", "user", "x")
        db.get_stats()
    assert re.search(r"slow write method=message.append seconds=\S+ waited=", daemon.log)
    assert re.search(r'slow write .* client=".*pid \d+, uid \d+\)"', daemon.log)


def test_a_port_that_is_taken_stops_nobody(own_daemon: Daemon) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        own_daemon.stop()
        own_daemon.options = ("--metrics-listen", f"127.0.0.1:{other.getsockname()[1]}")
        own_daemon.start()
    assert "no metrics are served, metrics_listen 127.0.0.1:" in own_daemon.log
