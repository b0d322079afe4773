"""How ``sessionctl top`` shows a daemon's rates."""

import dataclasses
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sessiond_client.cli import rates_view
from sessiond_client.cli.rates import ClientRate, Rates, Spread

EMPTY = Spread(0, None, None, None)
UNKNOWN = Rates(
    seconds=None, writes_per_second=None, failures_per_second=None, batches_per_second=None,
    reads_per_second=None, batch_size=EMPTY, commit=EMPTY, queue=EMPTY, cpu=None,
    resident_bytes=None, log_bytes=None, writes_waiting=0, reads_waiting=0, jobs=(), clients=(),
)  # fmt: skip
BUSY = Rates(
    seconds=1.0,
    writes_per_second=12345.6,
    failures_per_second=0.0,
    batches_per_second=1234.5,
    reads_per_second=3.25,
    batch_size=Spread(10, 10.31, 10, 50),
    commit=Spread(10, 0.003, 0.0025, 0.0048),
    queue=Spread(10, 0.0001, 0.0001, 30.0),
    cpu=0.124,
    resident_bytes=43 * 1024**2,
    log_bytes=round(1024**3 * 9.94),
    writes_waiting=12,
    reads_waiting=0,
    jobs=({"kind": "backup", "fraction": 0.4, "step": "copying"},),
    clients=(
        ClientRate(1, 0, "gateway\x1b.py", 120.4, 4120, 3),
        ClientRate(None, None, None, None, 2, 0),
    ),
)
STATS: dict[str, Any] = {
    "version": "0.1.0",
    "pid": 2406,
    "state": "serving",
    "started": 1000.0,
    "database": "/home/anna/" + "deep/" * 20 + "state.db",
}


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "-"), (0, "0B"), (999, "999B"), (1000, "1.0K"), (4198, "4.1K"),
        (64 * 1024**2, "64M"), (1023 * 1024, "1.0M"), (10.2 * 1024**3, "10G"),
    ],
)  # fmt: skip
def test_short_sizes(amount: float | None, text: str) -> None:
    assert rates_view.short_size(amount) == text


@given(st.floats(0, 1e15))
def test_short_sizes_are_short(amount: float) -> None:
    assert len(rates_view.short_size(amount)) <= 5


@given(st.floats(0, 99.0))
def test_short_latencies_are_short(seconds: float) -> None:
    assert len(rates_view.short_milliseconds(seconds)) <= 5


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0"), (0.25, "0.2"), (9.94, "9.9"), (9.96, "10"), (1234.5, "1234")],
)
def test_short_counts(number: float | None, text: str) -> None:
    assert rates_view.short_count(number) == text


def test_a_line_stands_under_its_heading_in_80_columns() -> None:
    assert len(rates_view.HEADING) == 80
    assert rates_view.line(BUSY, "12:00:00").split() == [
        "12:00:00", "12346", "3.2", "1234", "10", "2.5", "4.8", "0.1", "30000", "9.9G", "43M",
        "12%",
    ]  # fmt: skip
    assert len(rates_view.line(BUSY, "12:00:00")) == 80
    assert set(rates_view.line(UNKNOWN, "12:00:00").split()[1:]) == {"-"}


def test_facts() -> None:
    found = dict(rates_view.facts(STATS, BUSY, 1060.0))
    assert found["daemon"] == "sessiond 0.1.0, pid 2406, serving for 1 min"
    assert found["writes"] == "12,346 /s in 1234 batches /s of 10.3 (99 % up to 50), 12 waiting"
    assert found["reads"] == "3 /s, 0 waiting"
    assert found["commit"] == "50 % in 2.5 ms, 99 % in 4.8 ms"
    assert found["memory"] == "43 MiB, processor 12%"
    assert found["job"] == "backup 40 %, copying"
    assert found["health"] == "good"
    failing = dataclasses.replace(BUSY, failures_per_second=2.0)
    assert dict(rates_view.facts(STATS, failing, 0.0))["writes"].endswith(" waiting, 2 /s failed")


def test_a_job_of_unknown_length() -> None:
    assert rates_view.job({"kind": "vacuum", "fraction": None, "step": ""}) == "vacuum"


def drawn(found: Rates, trouble: str = "", width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(rates_view.page(STATS, found, 1060.0, trouble))
    return captured.get().splitlines()


@pytest.mark.parametrize("found", [BUSY, UNKNOWN])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_page_fits(found: Rates, width: int) -> None:
    assert max(map(len, drawn(found, "no daemon answers " * 10, width))) <= width


def test_a_page_shows_clients_and_why_it_stands_still() -> None:
    lines = [line.rstrip() for line in drawn(BUSY)]
    place = next(n for n, line in enumerate(lines) if line.lstrip().startswith("PID"))
    assert lines[place + 1].split() == ["1", "root", "gateway␛.py", "120", "4,120", "3"]
    assert lines[place + 2].split() == ["?", "?", "?", "-", "2", "0"]
    assert lines[-1] == "q quits"
    assert drawn(BUSY, "no daemon answers")[-1].rstrip() == "no daemon answers"
