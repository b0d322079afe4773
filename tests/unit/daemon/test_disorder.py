"""Sessions whose times do not rise with the ids are noted, whoever wrote them."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.sqlite.check import Kind, repair
from sessiond.sqlite.disorder import NOTE_ALL
from sessiond_protocol.requests.message import (
    Message,
    MessageAppend,
    MessageAppendMany,
    MessageClear,
    MessageReplace,
)
from sessiond_protocol.requests.session import SessionDelete
from tests.unit.daemon.stores import Opened, foreign, opened, together, with_two_messages


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    with with_two_messages(tmp_path / "state.db") as made:  # both at 1.0
        yield made


def at(time: float) -> Message:
    return Message(role="user", timestamp=time, content="text")


def said(session: str, *times: float) -> list[MessageAppend]:
    return [MessageAppend(session_id=session, message=at(time)) for time in times]


def noted(file: Opened) -> list[str]:
    return [row[0] for row in file.rows("SELECT session_id FROM sessiond_disorder ORDER BY 1")]


def elsewhere(file: Opened, session: str, time: float | str, message_id: int | None = None) -> None:
    with foreign(file.path) as other:
        other.execute(
            "INSERT INTO messages (id, session_id, role, content, timestamp)"
            " VALUES (?, ?, 'u', 'text', ?)",
            (message_id, session, time),
        )


# --- our own writes ----------------------------------------------------------------------------


def test_rising_and_equal_times_are_no_disorder(file: Opened) -> None:
    file.results(*said("s", 1.0, 2.0, 2.0, 3.0), *said("t", 1.0, 9.0))
    file.results(*said("s", 3.0, 4.0), *said("t", 9.0))
    assert noted(file) == []


@pytest.mark.parametrize("before", [(), (5.0,), (5.0, 6.0, 7.0)])
def test_a_time_that_falls_is_noted(file: Opened, before: tuple[float, ...]) -> None:
    file.results(*said("s", *before), *said("t", 7.0))
    file.results(*said("s", 0.5), *said("t", 8.0))
    assert noted(file) == ["s"]
    assert file.check().sound


def test_a_time_that_falls_within_a_batch_is_noted(file: Opened) -> None:
    file.results(*said("s", 5.0))
    file.results(*said("s", 6.0, 8.0, 7.0), *said("t", 2.0))
    assert noted(file) == ["s"]


def test_after_a_start_the_times_in_the_file_count(tmp_path: Path) -> None:
    path = tmp_path / "again.db"
    with opened(path) as file:
        file.append("s", "one")
        file.results(*said("s", 9.0))
    with opened(path) as file:
        file.results(*said("s", 8.0))
        assert noted(file) == ["s"]


def test_what_is_taken_back_is_not_noted(file: Opened) -> None:
    file.results(*said("s", 5.0))
    file.apply(together(*said("s", 2.0), MessageClear(session_id="s"), *said("nobody", 1.0)))
    assert noted(file) == []
    file.results(*said("s", 5.0))
    assert noted(file) == []


def test_times_inside_a_batch_of_writes_count(file: Opened) -> None:
    file.results(*said("s", 5.0))
    file.results(together(*said("s", 9.0)), *said("t", 2.0), *said("s", 7.0))
    assert noted(file) == ["s"]


def test_without_messages_there_is_no_disorder(file: Opened) -> None:
    file.results(*said("s", 5.0, 2.0), *said("t", 5.0, 2.0))
    assert noted(file) == ["s", "t"]
    file.results(MessageClear(session_id="s"), SessionDelete(session_id="t"))
    assert noted(file) == []
    replaced = MessageReplace(session_id="s", messages=[at(0.1), at(0.2)])
    file.results(*said("s", 4.0), replaced, *said("s", 0.3))
    assert noted(file) == []
    file.results(MessageReplace(session_id="s", messages=[at(3.0), at(0.2)]))
    assert noted(file) == ["s"]


# --- other programs ----------------------------------------------------------------------------


def test_rows_of_another_program_are_compared_when_they_are_picked_up(file: Opened) -> None:
    elsewhere(file, "s", 0.5)
    elsewhere(file, "t", 1.5)
    file.results(*said("t", 2.0))
    assert file.value("SELECT cjk_cursor FROM sessiond_meta") == 2
    file.care()
    assert file.value("SELECT cjk_cursor FROM sessiond_meta") == 5
    assert noted(file) == ["s"]


def test_our_times_are_compared_with_theirs(file: Opened) -> None:
    file.results(*said("s", 2.0))
    elsewhere(file, "s", 9.0)
    file.results(*said("s", 3.0))
    assert noted(file) == ["s"]


def test_a_time_that_is_no_number_is_disorder(file: Opened) -> None:
    elsewhere(file, "s", "yesterday")
    file.results(*said("s", 5.0))
    elsewhere(file, "t", "yesterday")
    file.care()
    assert noted(file) == ["s", "t"]


def test_what_another_program_changed_below_is_found_by_a_pass(file: Opened) -> None:
    file.results(*said("s", 5.0, 6.0), *said("t", 5.0))
    file.settle()
    with foreign(file.path) as other:
        other.execute("UPDATE messages SET timestamp = 50 WHERE id = 3")
    elsewhere(file, "t", 99.0, message_id=-5)
    file.settle()
    assert noted(file) == ["s", "t"]
    assert file.store.health()["index"]["mended"] == 2


# --- files of earlier versions, and damage -----------------------------------------------------


def test_an_earlier_versions_index_goes_and_its_sessions_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "earlier.db"
    with opened(path) as file:
        file.append("s", "one")
        file.append("t", "one")
        file.results(*said("s", 3.0, 2.0), *said("t", 3.0))
    with foreign(path) as earlier:
        earlier.execute("DROP TABLE sessiond_disorder")
        earlier.execute("CREATE INDEX sessiond_messages_order ON messages(session_id)")
    with opened(path) as file:
        assert noted(file) == ["s"]
        assert file.rows("SELECT 1 FROM sqlite_schema WHERE name = 'sessiond_messages_order'") == []
        assert file.check().sound


def test_notes_of_before_an_earlier_version_wrote_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "back.db"
    with opened(path) as file:
        file.append("s", "one")
        file.append("t", "one")
        file.results(*said("s", 3.0, 2.0))
    with foreign(path) as earlier:
        earlier.execute("CREATE INDEX sessiond_messages_order ON messages(session_id)")
        earlier.execute("UPDATE messages SET timestamp = 4 WHERE session_id = 's'")
        earlier.execute(
            "INSERT INTO messages VALUES (50, 't', 'u', 'x', 0, 0, 0, 0.5, 0, 0, 0, 0, 0)"
        )
        earlier.execute("UPDATE sessiond_meta SET cjk_cursor = 50")
    with opened(path) as file:
        assert noted(file) == ["t"]


def test_a_check_finds_what_is_not_noted_and_a_repair_notes_it(file: Opened) -> None:
    file.results(*said("s", 5.0, 2.0))
    elsewhere(file, "t", 0.5)
    with foreign(file.path) as other:
        other.execute("DELETE FROM sessiond_disorder")
    report = file.check()
    # Of what nobody has looked at nothing is promised.
    assert [finding.detail for finding in report.findings if finding.kind is Kind.ORDER] == [
        "session 's' goes back in time, which is not noted"
    ]
    with foreign(file.path) as other:
        assert Kind.ORDER in repair(other, report)
    assert noted(file) == ["s", "t"]
    file.store.reload()
    assert file.check().sound


# --- all of it ---------------------------------------------------------------------------------

_session = st.sampled_from("st")
_times = st.lists(st.sampled_from((1.0, 2.0, 3.0, 4.0)), max_size=4)
_ours = st.one_of(
    st.builds(lambda session, times: said(session, *times), _session, _times),
    st.builds(lambda session, times: said(session, *sorted(times)), _session, _times),
    st.builds(
        lambda session, times: [MessageAppendMany(session, [at(time) for time in times])],
        _session,
        _times,
    ),
    st.builds(
        lambda session, times: [MessageReplace(session, [at(time) for time in times])],
        _session,
        _times,
    ),
    st.builds(lambda session: [MessageClear(session)], _session),
    st.builds(lambda session, times: [together(*said(session, *times))], _session, _times),
)  # fmt: skip
_theirs = st.tuples(_session, st.sampled_from((0.0, 2.0, 9.0)))
_steps = st.lists(
    st.lists(_ours, min_size=1, max_size=4).map(lambda them: list(chain(*them)))
    | _theirs
    | st.none(),
    max_size=12,
)


def in_disorder(connection: apsw.Connection) -> set[str]:
    """Sessions that are, by looking at every message up to the cursor."""
    newest: dict[str, float] = {}
    found = set()
    for session, time in connection.execute(
        "SELECT session_id, timestamp FROM messages"
        " WHERE id <= (SELECT cjk_cursor FROM sessiond_meta) ORDER BY id"
    ):
        if time < newest.setdefault(session, time):
            found.add(session)
        newest[session] = max(newest[session], time)
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_steps)
def test_whatever_happens_every_session_in_disorder_is_noted(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object]
) -> None:
    with opened(tmp_path_factory.mktemp("any") / "state.db") as file:
        file.append("s", "one")
        file.append("t", "one")
        for step in steps:
            if step is None:
                file.care()
            elif isinstance(step, tuple):
                elsewhere(file, *step)
            else:
                assert isinstance(step, list)
                file.apply(*step)
            assert in_disorder(file.connection) <= set(noted(file))
        file.settle()
        wanted = in_disorder(file.connection)
        assert wanted <= set(noted(file))
        file.connection.execute("DELETE FROM sessiond_disorder")
        file.connection.execute(NOTE_ALL)
        assert set(noted(file)) == wanted
