"""When a batch waits for company."""

import pytest

from sessiond.batching import BatchLimits, BatchRule


def rule(max_requests: int = 100, max_delay: float = 0.002, siblings: int = 3) -> BatchRule:
    return BatchRule(BatchLimits(max_requests, 1_000_000, max_delay, siblings))


def after(made: BatchRule, *batches: int) -> BatchRule:
    for writers in batches:
        made.closed(writers)
    return made


def test_a_lone_writer_never_waits() -> None:
    made = after(rule(), *[1] * 50)
    assert made.expected(waiting_requests=1, waiting_writers=1) == 1


def test_a_fresh_daemon_waits_for_nobody() -> None:
    assert rule().expected(1, 1) == 1


def test_those_who_took_part_lately_are_waited_for() -> None:
    made = after(rule(), *[8] * 30)
    assert made.expected(1, 1) == 8


@pytest.mark.parametrize("writers", [1, 2])
def test_fewer_than_the_siblings_are_not_worth_it(writers: int) -> None:
    assert after(rule(siblings=3), *[writers] * 30).expected(1, 1) == 1


def test_what_was_is_forgotten_when_the_others_leave() -> None:
    made = after(rule(), *[8] * 30)
    after(made, *[1] * 10)
    assert made.expected(1, 1) == 1


def test_a_full_batch_goes_at_once() -> None:
    made = after(rule(max_requests=10), *[8] * 30)
    assert made.expected(10, 2) == 2
    assert made.expected(9, 2) == 8


def test_without_a_delay_nobody_is_waited_for() -> None:
    assert after(rule(max_delay=0.0), *[8] * 30).expected(1, 1) == 1


def test_more_than_expected_go_as_they_are() -> None:
    made = after(rule(), *[8] * 30)
    assert made.expected(12, 12) <= 12
