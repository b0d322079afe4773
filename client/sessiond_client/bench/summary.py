"""What a run comes to: the same figures for whoever did the work."""

import statistics
from array import array
from collections.abc import Sequence
from typing import Any

from sessiond_client.bench.latency import Notes, WorkerReport, latency_ms
from sessiond_client.bench.workers import Outcome


def all_latencies(outcome: Outcome) -> "array[float]":
    """Every answer's time in seconds, worker by worker."""
    latencies: array[float] = array("d")
    for report in outcome.reports:
        latencies.extend(report.notes.latencies)
    return latencies


def figures(outcome: Outcome, seconds: float, count: int | None) -> dict[str, Any]:
    """Throughput, latencies and shares of a run that was bounded by ``seconds`` or ``count``.

    ``slowest_share``: operations of the slowest worker, as a share of the mean.
    """
    reports = outcome.reports
    notes = [report.notes for report in reports]
    if count is not None:  # it may have been reached before the time was up
        last = max(note.last_answer for note in notes)
        seconds = min(seconds, max(last - outcome.start, 1e-9))
    operations = [len(note.latencies) for note in notes]
    messages = sum(note.messages for note in notes)
    return {
        "seconds": round(seconds, 6),
        "operations": sum(operations),
        "messages": messages,
        "operations_per_second": _rate(sum(operations) - sum(n.late for n in notes), seconds),
        "messages_per_second": _rate(messages - sum(n.late_messages for n in notes), seconds),
        "latency_ms": latency_ms(all_latencies(outcome)),
        "slowest_share": round(min(operations) / (statistics.fmean(operations) or 1), 4),
        "failed": sum(note.failed for note in notes),
        "first_failure": _first_failure(notes),
        "cpu_seconds": round(sum(report.cpu_seconds for report in reports), 4),
        "workers": [_of_worker(report) for report in reports],
    }


def stored_by(outcome: Outcome) -> int:
    """How many messages the workers stored in all, before and after the start."""
    return sum(report.warm_up_messages + report.notes.messages for report in outcome.reports)


def _first_failure(notes: Sequence[Notes]) -> str | None:
    return next((note.first_failure for note in notes if note.first_failure), None)


def _of_worker(report: WorkerReport) -> dict[str, Any]:
    notes = report.notes
    return {
        "worker": report.worker,
        "operations": len(notes.latencies),
        "messages": notes.messages,
        "failed": notes.failed,
        "slowest_ms": latency_ms(notes.latencies).get("max"),
    }


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 2)
