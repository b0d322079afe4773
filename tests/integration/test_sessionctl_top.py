"""``sessionctl top`` with a real daemon: a page at a terminal, lines in a pipe."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from rich.cells import cell_len

from sessiond_client import SessionDB
from sessiond_client.cli import rates_view
from tests.support.foreign import HOLD_LOCK, Foreign
from tests.support.sessionctl import COMMAND, FIRST, PATIENCE, Ctl, ctl, own
from tests.support.terminal import Seen

__all__ = ["ctl", "own"]


@contextmanager
def writing(ctl: Ctl) -> Iterator[None]:
    """Somebody writes and reads all the while."""
    done = threading.Event()

    def write() -> None:
        with SessionDB(**ctl.daemon.arguments) as db:
            while not done.wait(0.01):
                db.append_message(FIRST, "user", "again")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_pipe_gets_a_line_per_interval(own: Ctl) -> None:
    with writing(own):
        heading, *lines = own.out("top", "--interval", "200ms", "--count", "3").splitlines()
    assert heading == rates_view.HEADING
    assert [len(each) for each in lines] == [80] * 3
    assert float(lines[-1].split()[1]) > 0


def test_json_is_an_object_per_interval(own: Ctl) -> None:
    with writing(own):
        told = [json.loads(each) for each in own.out(
            "top", "-i", "0.2", "-n", "2", "--json").splitlines()]  # fmt: skip
    assert [each["pid"] for each in told] == [own.daemon.pid] * 2
    assert told[1]["time"] - told[0]["time"] == pytest.approx(told[1]["seconds"], abs=0.15)
    for each in told:
        assert each["writes_per_second"] > 0
        assert each["commit"]["p50"] <= each["commit"]["p99"]
        busiest = each["clients"][0]
        assert (busiest["pid"], busiest["requests_per_second"] > 0) == (os.getpid(), True)


def test_a_terminal_gets_a_page_until_q(own: Ctl) -> None:
    with writing(own):
        # The second page is the first that knows rates.
        seen = own.steered("top", "-i", "100ms", then=[("99 % up to", "q")])
    assert seen.status == 0
    assert f"pid {own.daemon.pid}, serving for " in seen.text
    assert "q quits" in seen.text
    assert "REQUESTS/S" in seen.text
    pages = [Seen(each, 0) for each in seen.raw.split("\x1b[H")]
    assert max(cell_len(line) for page in pages for line in page.lines) == 80
    assert seen.raw.rstrip().endswith("\x1b[?1049l")  # the terminal as it was


def test_terminated_it_leaves_the_terminal_as_it_was(own: Ctl) -> None:
    def terminate() -> None:
        mine = ["pgrep", "-P", str(os.getpid()), "-f", "sessiond_client.cli top"]
        (found,) = subprocess.run(mine, capture_output=True, check=True, text=True).stdout.split()
        os.kill(int(found), signal.SIGTERM)

    with writing(own):
        seen = own.steered("top", "-i", "100ms", then=[("99 % up to", terminate)])
    assert seen.status == 143
    assert seen.raw.rstrip().endswith("\x1b[?1049l")


def test_a_count_prints_lines_at_a_terminal_too(ctl: Ctl) -> None:
    seen = ctl.at_terminal("top", "-i", "100ms", "-n", "21")
    assert (seen.status, seen.lines.count(rates_view.HEADING)) == (0, 2)
    assert "\x1b" not in seen.raw


def test_a_page_outlives_its_daemon(own: Ctl) -> None:
    seen = own.steered(
        "top", "-i", "100ms", "--timeout", "0.2",
        then=[
            ("q quits", own.daemon.stop),
            ("no daemon answers", own.daemon.start),
            ("q quits", "q"),
        ],
    )  # fmt: skip
    assert seen.status == 0
    assert f"pid {own.daemon.pid}, serving for " in seen.text


def test_a_page_outlives_the_opening_of_its_database(own: Ctl) -> None:
    with ExitStack() as stack:
        aside = stack.enter_context(ThreadPoolExecutor(1))

        def start_beside_a_holder() -> None:
            holder = stack.enter_context(Foreign(HOLD_LOCK, own.daemon.database))
            holder.wait_for_pause()
            aside.submit(own.daemon.start)
            stack.callback(holder.finish)

        seen = own.steered(
            "top", "-i", "100ms", "--timeout", "0.2",
            then=[
                ("q quits", own.daemon.stop),
                ("no daemon answers", start_beside_a_holder),
                ("the database is being opened", stack.close),
                ("q quits", "q"),
            ],
        )  # fmt: skip
    assert seen.status == 0
    assert f"pid {own.daemon.pid}, serving for " in seen.text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_heeded_quietly(ctl: Ctl, number: signal.Signals, status: int) -> None:
    with subprocess.Popen(
        [*COMMAND, "top", "-i", "100ms", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ctl.environment(),
    ) as process:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (status, "")


def test_without_a_daemon_none_is_started(own: Ctl) -> None:
    own.daemon.stop()
    for words in (("top", "-n", "1"), ("top", "--json")):
        said = own.complaint(*words, status=os.EX_UNAVAILABLE)
        assert said.startswith(f"no daemon serves {own.daemon.database}")
    assert own.at_terminal("top").status == os.EX_UNAVAILABLE


@pytest.mark.parametrize("span", ["0", "0.01", "1h", "-1", "soon", "2 hours"])
def test_an_interval_must_be_one(ctl: Ctl, span: str) -> None:
    said = ctl.complaint("top", "--interval", span, status=os.EX_USAGE)
    assert "is not a span of 100ms to 60min; allowed are 2, 0.5s, 500ms, 1min" in said
