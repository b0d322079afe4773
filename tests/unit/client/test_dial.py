"""Looking for a daemon: where, how often, how long, and what is said when there is none."""

from collections.abc import Callable, Sequence

import pytest

from sessiond_client import Unavailable
from sessiond_client._dial import LONGEST_PAUSE, Dialling, Pause, Start, Step, Try, dialling


class Search:
    """Dialling with a clock of its own: pauses take their time, everything else takes none."""

    def __init__(
        self,
        candidates: Callable[[], Sequence[str]] = lambda: ["/run/a.sock"],
        seconds: float = 10.0,
        autostart: bool = False,
    ) -> None:
        self.left = seconds
        self.steps: Dialling = dialling(
            candidates, lambda: self.left, autostart=autostart, advice=lambda: "start one"
        )
        self.taken: list[Step] = []

    def run(self, answer: Callable[[Step], str | None]) -> bool:
        """Take steps until one connects; False when the search ended by itself."""
        step = next(self.steps)
        while True:
            self.taken.append(step)
            if isinstance(step, Pause):
                self.left -= step.seconds
            failure = answer(step)
            if isinstance(step, Try) and failure is None:
                self.steps.close()
                return True
            try:
                step = self.steps.send(failure)
            except StopIteration:
                return False

    def tried(self) -> list[str]:
        return [step.path for step in self.taken if isinstance(step, Try)]


def refuse(step: Step) -> str | None:
    return "nobody listens" if isinstance(step, Try) else None


def test_the_first_that_answers_is_taken() -> None:
    search = Search(lambda: ["/run/a.sock", "/run/b.sock"])
    assert search.run(lambda step: "no" if step == Try("/run/a.sock") else None)
    assert search.taken == [Try("/run/a.sock"), Try("/run/b.sock")]


def test_candidates_are_asked_for_anew_each_time() -> None:
    places = iter([["/run/a.sock"], ["/run/a.sock"], ["/run/new.sock", "/run/a.sock"]])
    search = Search(lambda: next(places))
    assert search.run(lambda step: None if step == Try("/run/new.sock") else refuse(step))
    assert search.tried() == ["/run/a.sock", "/run/a.sock", "/run/new.sock"]


def test_pauses_grow_to_a_limit_and_the_time_is_kept() -> None:
    search = Search(seconds=20.0)
    with pytest.raises(Unavailable, match=r"/run/a\.sock: nobody listens.*start one"):
        search.run(refuse)
    pauses = [step.seconds for step in search.taken if isinstance(step, Pause)]
    assert pauses[0] <= 0.01
    assert max(pauses) <= LONGEST_PAUSE
    assert sum(pauses) == pytest.approx(20.0 - search.left)
    assert 0 <= search.left <= LONGEST_PAUSE
    assert 20 < len(search.tried()) < 200


def test_with_no_time_every_place_is_tried_once() -> None:
    search = Search(lambda: ["/run/a.sock", "/run/b.sock"], seconds=0.0)
    with pytest.raises(Unavailable, match=r"a\.sock: nobody listens; /run/b\.sock: nobody"):
        search.run(refuse)
    assert search.taken == [Try("/run/a.sock"), Try("/run/b.sock")]


def test_a_daemon_is_started_once_and_then_looked_for() -> None:
    search = Search(autostart=True)
    assert search.run(lambda step: refuse(step) if len(search.tried()) < 3 else None)
    kinds = [type(step) for step in search.taken]
    assert kinds[:2] == [Try, Start]
    assert kinds.count(Start) == 1
    assert len(search.tried()) == 3


def test_a_daemon_that_answers_is_not_started() -> None:
    search = Search(autostart=True)
    assert search.run(lambda _: None)
    assert search.taken == [Try("/run/a.sock")]


def test_a_daemon_that_cannot_be_started_ends_the_search_at_once() -> None:
    search = Search(autostart=True)
    with pytest.raises(Unavailable, match="none could be started: no such program"):
        search.run(lambda step: "no such program" if isinstance(step, Start) else refuse(step))
    assert search.left == 10.0
