"""Journals: what a process wrote before it was killed is all there, but for half a line."""

from pathlib import Path

from sessiond_client.torture.journal import (
    Answered,
    Began,
    Ended,
    Event,
    Journal,
    Refused,
    Wrong,
    journal_path,
    noted,
    read_life,
    read_lives,
)

EVENTS: tuple[Event, ...] = (
    Began(1, 1.0, "c0-0", first=1, count=2),
    Began(2, 2.0, "c0-0", first=3, count=1, key="k3"),
    Began(3, 3.0, "c0-0", tokens=5),
    Answered(1, 0.1, [10, 11]),
    Refused(3, 0.2, "disk_full", "no room", certain=True),
    Wrong("saw something"),
)


def write(folder: Path, *events: Event, client: int = 0, life: int = 0) -> None:
    journal = Journal(journal_path(folder, client, life))
    journal.note(*events)
    journal.close()


def test_what_was_noted_is_read(tmp_path: Path) -> None:
    write(tmp_path, *EVENTS)
    found = read_life(tmp_path, 0, 0)
    assert list(found.began.values()) == list(EVENTS[:3])
    assert found.answered == {1: EVENTS[3]}
    assert found.refused == {3: EVENTS[4]}
    assert found.wrong == ["saw something"]
    assert [began.call for began in found.open] == [2]
    assert not found.ended
    write(tmp_path, Ended())
    assert read_life(tmp_path, 0, 0).ended


def test_answers_after_a_moment_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, *EVENTS)
    known = noted(tmp_path)
    write(tmp_path, Answered(2, 0.3, [12]), Refused(9, 0.1, "disk_full", "none", certain=True))
    write(tmp_path, Began(1, 4.0, "c0-1", first=1, count=1), Answered(1, 0.1, [13]), life=1)
    life, next_life = read_lives(tmp_path, [2], known)
    assert life.answered == {1: EVENTS[3]}
    assert life.refused.keys() == {3, 9}
    assert [began.call for began in life.open] == [2]
    assert (len(next_life.began), next_life.answered) == (1, {})


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, *EVENTS)
    path = journal_path(tmp_path, 0, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    found = read_life(tmp_path, 0, 0)
    assert found.wrong == []
    assert len(found.refused) == 1


def test_lives_of_all_clients(tmp_path: Path) -> None:
    write(tmp_path, EVENTS[0], client=0, life=1)
    write(tmp_path, EVENTS[0], client=1)
    lives = read_lives(tmp_path, [2, 1])
    assert [(life.client, life.number, len(life.began)) for life in lives] == [
        (0, 0, 0), (0, 1, 1), (1, 0, 1),
    ]  # fmt: skip
